//! A pool is described by a builder.

use stockade::Pool;

fn main() {
    let _ = Pool::new(16);
}
