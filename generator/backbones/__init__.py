"""What is denoised: one file per architecture."""
