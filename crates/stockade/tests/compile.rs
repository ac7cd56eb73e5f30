//! What the compiler says to the mistakes that users make most.
//!
//! The messages are those of one compiler version. After an update run
//! `TRYBUILD=overwrite cargo test -p stockade --all-features --test compile`, and read the difference: the help has to be there.

#[test]
fn the_compiler_says_what_to_write() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/compile/*.rs");
}
