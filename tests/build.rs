//! Lets the tests find libtorch where the build found it.

include!("../trainer/libtorch_rpath.rs");

fn main() {
    link_with_libtorch_rpath();
}
