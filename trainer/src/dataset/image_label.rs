//! What is known of a picture as a whole, and nothing about where.

use hoi_runtime::vocabulary::{ObjectClass, Verb};

/// An interaction that an image shows somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageLabel {
    /// What is done.
    pub verb: Verb,
    /// To what; `None` where there is no object of the vocabulary.
    pub object: Option<ObjectClass>,
}
