//! What a layer on the way costs where there is nothing to write.

use std::{convert::Infallible, future::ready};

use http::{Request, Response};
use stockade_clients::http::InjectLayer;
use stockade_core::Error;
use tower::{Service, ServiceBuilder};

#[test]
fn a_call_without_deadline_and_priority_allocates_nothing() {
    let mut stack = ServiceBuilder::new()
        .layer(InjectLayer::new())
        .map_err(Error::Service)
        .service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(()))));
    let mut call = tokio_test::task::spawn(stack.call(Request::new(())));
    assert!(call.poll().is_ready(), "everything that is made once has been made");

    let request = Request::new(());
    let allocated = allocation_counter::measure(|| {
        let call = std::pin::pin!(stack.call(request));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.poll(&mut cx).is_ready());
    });
    assert_eq!(allocated.count_total, 0);
}
