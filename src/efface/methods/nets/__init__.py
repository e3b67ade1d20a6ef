"""Methods for any ``torch.nn.Module``, one file each."""
