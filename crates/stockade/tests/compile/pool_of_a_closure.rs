//! An async function is no service yet.

use stockade::{Error, Pool};

fn main() {
    let _ = Pool::builder()
        .workers(4)
        .build(async |n: u32| Ok::<_, Error<std::io::Error>>(n + 1));
}
