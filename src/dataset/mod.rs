//! Pictures and labels: HDF5, image folders, built-in stimuli; batches prepared off the training thread.
