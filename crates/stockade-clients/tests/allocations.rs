//! What must not allocate.

use std::{convert::Infallible, future::ready};

use http::{Request, Response};
use stockade_clients::http::{ByHost, HostKey, InjectLayer};
use stockade_core::Error;
use stockade_keyed::KeyedLayer;
use tower::{Service, ServiceBuilder, layer::util::Identity};

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

#[test]
fn a_call_to_a_host_that_is_known_allocates_nothing() {
    let (hosts, handle) = KeyedLayer::new(ByHost, 9, |_| Identity::new()).with_handle();
    let mut stack = ServiceBuilder::new()
        .layer(hosts)
        .map_err(Error::Service)
        .service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(()))));
    let mut call = |uri| {
        let request = Request::get(uri).body(()).unwrap();
        allocation_counter::measure(|| {
            let call = std::pin::pin!(stack.call(request));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(call.poll(&mut cx).is_ready());
        })
    };
    assert!(call("https://a.example/").count_total > 0);
    assert_eq!(call("https://A.example:443/other").count_total, 0);
    let host = HostKey::of(&http::Uri::from_static("https://a.example"));
    assert_eq!((handle.keys(), handle.stats(&host).unwrap().calls), (vec![host], 2));
}
