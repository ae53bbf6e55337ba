//! Finding a GPU at run time.

/// Registers CUDA with libtorch where there is one; call it before anything of tch.
///
/// The command is linked with the CPU half of libtorch only, so that one binary runs on both kinds of machine. CUDA registers
/// itself when its library is loaded, with global symbols; where it is missing, the CPU is what remains.
pub fn register_cuda() {
    #[cfg(unix)]
    load_cuda_library();
}

#[cfg(unix)]
#[allow(unsafe_code, reason = "loading a library runs its initialisers; this one is libtorch's own and stays loaded")]
fn load_cuda_library() {
    // SAFETY: the name is a valid C string, and the handle is never closed.
    unsafe {
        libc::dlopen(c"libtorch_cuda.so".as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
    }
}
