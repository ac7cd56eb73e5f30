//! TODO
/// TODO
pub fn page(_: &super::record::Run, _: Option<&super::record::Run>) -> String {
    String::new()
}
