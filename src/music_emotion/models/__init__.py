"""Networks, augmentation and classical estimators."""
