//! The `countersign` program. All of it is in the library, except the allocator, which saves 5 % of an exchange.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    countersign::cli::run()
}
