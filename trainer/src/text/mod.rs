//! Text of interactions and the frozen encoders that read it; used in training only.
