//! Cameras on the network that tests can break: servers for MJPEG over HTTP and for RTSP.

pub mod mjpeg;
pub mod rtsp;
