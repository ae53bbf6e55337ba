//! The systems that can be trained, one module each; what they share: [`run`] and [`artifact`].

pub mod artifact;
pub mod detr;
pub mod edge;
pub mod layout;
pub mod rmlr;
pub mod run;
pub mod weakly_hoi;
