//! Memory that libtorch frees is kept for its next tensor.

/// Tells the C library to keep freed memory rather than to give it back: libtorch allocates every intermediate map anew, and the system
/// would clear its pages each time, which takes longer than many a convolution. Call it before anything of tch; elsewhere than on Linux
/// with glibc it does nothing.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    set();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "mallopt only sets numbers of the allocator")]
fn set() {
    /// The largest that glibc takes.
    const LARGEST_IN_HEAP: i32 = 32 << 20;
    const KEPT: i32 = i32::MAX;
    const GROWTH: i32 = 64 << 20;
    // SAFETY: called once at the start, before other threads; the numbers are in the ranges of mallopt(3), which ignores others.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_IN_HEAP);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_TOP_PAD, GROWTH);
    }
}
