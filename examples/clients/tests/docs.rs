//! The documentation of stockade-clients shows what is run here.

const DOCS: &str = include_str!("../../../crates/stockade-clients/src/http.rs");
const TESTS: [&str; 3] =
    [include_str!("kube.rs"), include_str!("octocrab.rs"), include_str!("openai.rs")];

#[test]
fn the_code_for_each_client_in_the_documentation_is_what_is_run_here() {
    let blocks: Vec<_> = DOCS.split("//! ```ignore\n").skip(1).collect();
    assert_eq!(blocks.len(), TESTS.len());
    for (block, test) in blocks.into_iter().zip(TESTS) {
        let code = block.split("//! ```").next().unwrap_or_default();
        let shown: Vec<_> = code.lines().map(|line| line[3..].trim()).collect();
        let run: Vec<_> = test.lines().map(str::trim).collect();
        assert!(run.windows(shown.len()).any(|lines| lines == shown), "not run: {code}");
    }
}
