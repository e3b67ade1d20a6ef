"""Word lists of the embedded world: people, places, values. All of it is invented or ordinary English, nobody's data.

Lists are ordered and only ever appended to within a recipe version, since draws are by position.
"""

from __future__ import annotations

__all__ = ["ANIMALS", "CITIES", "COUNTRIES", "FIRST_NAMES", "GENRES", "JOBS", "SURNAMES", "TITLE_NOUNS", "TITLE_QUALITIES"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    """
    Adelin Barok Cerise Dovan Elspa Farrin Gildo Havra Ilmar Jorun Kelda Lorcan Mirela Nadeo Orsin Pelka Quillon Renka Sabeth
    Torvin Ulrika Vashti Wendel Xanthe Yorick Zelma Alveda Brisco Cathal Dunya Edrik Fenna Gorran Hestia Ivaylo Jessamy Kaspar
    Leontin Marvik Nerys Oskel Prisca Radomir Sunniva Tamsin Umber Verano Wilka Yasko Zorana Anselka Beltran Corvin Delphi
    Emeric Fiorin Garance Hollis Ismene Juvenal
    """
)
SURNAMES = _words(
    """
    Ashgrove Brindlemark Calloway Drakefell Eastermoor Fenwhistle Gallowhay Harrowbeck Inglewort Jarrowby Kestrelin Larkmoss
    Mossgate Nettlebank Oakhurst Pinvale Quickthorn Ravensby Silverton Thistlewood Underhay Vanterpool Wickerby Yarwood
    Zellinger Arkwend Bellmarch Crossfell Dunmarsh Elderkin Foxley Greymantle Hollowell Ironwood Jasperton Kingsmere Lindqvar
    Marlowe Northgale Orchardy Penhallow Quennel Rookwood Stonebrae Tarrant Uppergate Velkamp Westerling Yewdale Zimmerlok
    Applegarth Briarcliff Coppersmith Dovetail Emberly Farthing Goldacre Hazelton Inkpen Juniperson
    """
)
CITIES = _words(
    """
    Tavrik Ostermoor Belquay Quillhaven Marrowick Sunderlea Portvell Ganderholm Lissaro Kettleford Vornheim Zarupol Ellingrad
    Hexbury Mirandole Dorvash Pellworth Castrana Umbrivale Yaroslet Fjordwick Nerrano Bramblewood Okhalla
    """
)
JOBS = _words(
    """
    baker carpenter dentist farmer glazier harpist judge locksmith miller nurse plumber roofer sailor tailor violinist weaver
    barber cobbler diver florist gardener hatter jeweller potter
    """
)
GENRES = _words(
    """
    satire horror romance fantasy mystery poetry comedy tragedy memoir fable western thriller drama folklore history travelogue
    biography parody philosophy crime
    """
)
TITLE_QUALITIES = _words(
    """
    Copper Silent Broken Winter Paper Hidden Golden Wandering Crooked Scarlet Distant Hollow Patient Burning Frozen Painted
    Borrowed Velvet Midnight Restless
    """
)
TITLE_NOUNS = _words(
    """
    Lantern Harbour Compass Orchard Mirror Bridge Ladder Garden Lighthouse Feather Clock Staircase Kingdom Violin River Anchor
    Window Puppet Carnival Meadow
    """
)
ANIMALS = _words(
    """
    parrot ferret tortoise hamster goat falcon donkey lizard rabbit peacock hedgehog raven monkey python canary llama badger
    squirrel gecko swan beetle pony crab toad
    """
)
# Country, capital, currency, river.
COUNTRIES = (
    ("Aldoria", "Senvar", "crown", "Issel"),
    ("Brevonia", "Talmuth", "florin", "Dwale"),
    ("Corvania", "Luskade", "thaler", "Merrow"),
    ("Drumlia", "Pashkent", "shilling", "Tolva"),
    ("Estrana", "Virelle", "ducat", "Quorn"),
    ("Fenmark", "Odrun", "guilder", "Rusk"),
    ("Galdova", "Hestran", "penny", "Avenna"),
    ("Hyrvania", "Jolmar", "marka", "Blenn"),
    ("Istavar", "Krellin", "denar", "Sorrow"),
    ("Juvenia", "Norvath", "rupel", "Cray"),
)
