"""Fine-tunes and samples defect generators; knows images, masks and class names, nothing above."""
