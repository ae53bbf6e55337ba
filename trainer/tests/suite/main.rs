//! The crate from outside: a tiny data set trained end to end, the command as a process, and the published annotation where it is.
#![allow(clippy::unwrap_used)]

mod clip;
mod command;
mod count;
mod data_check;
mod dataset;
mod detr;
mod edge;
mod efficientnet_lite;
mod eval_boxes;
mod export;
mod loader;
mod network;
mod published;
mod reference;
mod rmlr;
mod rmlr_photos;
mod run;
mod scenes;
mod score_hico;
mod score_v_coco;
mod score_v_coco_files;
mod second_backbone;
mod slow_scores;
mod text;
mod tiny;
mod training;
mod tune;
mod v_coco_data;
mod weakly;
mod weakly_data;
mod weakly_export;
mod weakly_photos;
mod weakly_study;
mod weakly_table_3;
mod weights;
