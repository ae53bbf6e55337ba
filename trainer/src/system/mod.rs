//! The systems that can be trained, one module each.

pub mod detr;
pub mod layout;
pub mod rmlr;
pub mod run;
