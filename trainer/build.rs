//! Lets the command and the tests find libtorch where the build found it, without LD_LIBRARY_PATH.

include!("libtorch_rpath.rs");

fn main() {
    link_with_libtorch_rpath();
}
