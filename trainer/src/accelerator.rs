//! Finding a GPU at run time, and 16-bit arithmetic on it.

use std::ffi::CStr;

use tch::Device;

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

/// libtorch's autocast to bfloat16: inside, matrix products and convolutions take and give 16-bit numbers, and what needs more is
/// computed in 32 bits. tch offers 16-bit floats of the other kind only, and only on a GPU, so libtorch is called by name.
#[derive(Clone, Copy, Debug)]
pub struct Autocast {
    device: i8,
    set_enabled: extern "C" fn(i8, bool),
    set_type: extern "C" fn(i8, i8),
    nest: extern "C" fn() -> i32,
    leave: extern "C" fn() -> i32,
    forget: extern "C" fn(),
}

/// `c10::DeviceType`.
const CPU: i8 = 0;
const CUDA: i8 = 1;
/// `c10::ScalarType`.
const BFLOAT16: i8 = 15;

/// A function of libtorch by its C++ name, `None` where this libtorch has none of that name.
#[cfg(unix)]
#[allow(unsafe_code, reason = "looking up a symbol of the process")]
fn symbol(name: &CStr) -> Option<*mut libc::c_void> {
    // SAFETY: the name is a valid C string; looking it up has no effect.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

#[cfg(not(unix))]
fn symbol(_: &CStr) -> Option<*mut libc::c_void> {
    None
}

impl Autocast {
    /// Autocast on a device; `None` where libtorch has none for it.
    #[allow(unsafe_code, reason = "libtorch's own functions, called as they are declared")]
    pub fn bfloat16(device: Device) -> Option<Self> {
        let device = match device {
            Device::Cpu => CPU,
            Device::Cuda(_) => CUDA,
            _ => return None,
        };
        let set_enabled = symbol(c"_ZN2at8autocast20set_autocast_enabledEN3c1010DeviceTypeEb")?;
        let set_type = symbol(c"_ZN2at8autocast18set_autocast_dtypeEN3c1010DeviceTypeENS1_10ScalarTypeE")?;
        let nest = symbol(c"_ZN2at8autocast17increment_nestingEv")?;
        let leave = symbol(c"_ZN2at8autocast17decrement_nestingEv")?;
        let forget = symbol(c"_ZN2at8autocast11clear_cacheEv")?;
        // SAFETY: the mangled names spell the parameters: DeviceType and ScalarType are enumerations over a signed byte, passed and
        // returned as C would; none of the functions throws for a device that exists.
        unsafe {
            Some(Self {
                device,
                set_enabled: std::mem::transmute::<*mut libc::c_void, extern "C" fn(i8, bool)>(set_enabled),
                set_type: std::mem::transmute::<*mut libc::c_void, extern "C" fn(i8, i8)>(set_type),
                nest: std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> i32>(nest),
                leave: std::mem::transmute::<*mut libc::c_void, extern "C" fn() -> i32>(leave),
                forget: std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(forget),
            })
        }
    }

    /// Runs `f` with autocast on, on this thread.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> T {
        (self.set_type)(self.device, BFLOAT16);
        (self.set_enabled)(self.device, true);
        (self.nest)();
        let result = f();
        // Weights cast once are kept until the outermost use ends; the next step has other weights.
        if (self.leave)() == 0 {
            (self.forget)();
        }
        (self.set_enabled)(self.device, false);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    #[test]
    fn products_are_16_bits_inside_and_gradients_32() {
        let autocast = Autocast::bfloat16(Device::Cpu).unwrap();
        let a = Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let b = Tensor::ones([3, 2], (Kind::Float, Device::Cpu));
        let inside = autocast.run(|| a.matmul(&b));
        assert_eq!(inside.kind(), Kind::BFloat16);
        assert_eq!(a.matmul(&b).kind(), Kind::Float, "and no longer outside");
        inside.sum(Kind::Float).backward();
        assert_eq!(a.grad().kind(), Kind::Float);
        assert_eq!(Vec::<f32>::try_from(a.grad().view([-1])).unwrap(), [2.0; 6]);
    }
}
