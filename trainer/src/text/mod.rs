//! Text of interactions and the frozen encoders that read it; used in training only.
//!
//! RmLR (section 3.3) writes each annotated triplet as a sub-sentence "human \<verb\> \<object\>" ([`sub_sentence`]) and lets a frozen
//! encoder read them ([`TextEncoder`]): the sub-sentences of an image in one text for the words' vectors, each alone for its
//! sentence vector. The networks themselves are in [`crate::network::text`].
//!
//! CLIP's text transformer ([`crate::network::clip`]) has a tokenizer of its own, [`ClipTokenizer`].

mod clip;
mod encoder;
mod error;
mod prompt;
mod serialise;
mod tokens;

pub use clip::{ClipTokenizer, Overlong};
pub use encoder::{ImageText, Pooling, TextEncoder, TextOptions};
pub use error::TextError;
pub use prompt::{participle, prompt, role_prompt};
pub use serialise::sub_sentence;
