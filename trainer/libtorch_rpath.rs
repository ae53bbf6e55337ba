/// Adds the `lib` folder of `LIBTORCH` to the run path of this package's executables and tests.
///
/// Included by the build scripts of the packages that link libtorch: cargo hands such link arguments to one package only.
fn link_with_libtorch_rpath() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let Some(libtorch) = std::env::var_os("LIBTORCH") else { return };
    // `.libtorch` is a link; the run path names what it points to.
    let lib = std::path::Path::new(&libtorch).join("lib");
    match lib.canonicalize() {
        Ok(lib) => println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display()),
        Err(_) => println!(
            "cargo:warning=no libtorch in {}: run trainer/setup-libtorch, or set LIBTORCH",
            lib.display()
        ),
    }
}
