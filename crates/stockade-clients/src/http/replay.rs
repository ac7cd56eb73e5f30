//! Bodies that are streamed through and kept while they are small, so that they can be sent again.
//!
//! One handle at a time reads from the body itself, and appends what comes to the kept part; all others read the kept
//! part. When that handle is dropped, the body goes back to where the next one finds it, so an attempt that was cut in
//! the middle is repeated from its beginning.

use std::{
    error::Error as StdError,
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};

use super::idempotent;

/// Up to which size a body is kept, unless another is set.
pub const REPLAY_LIMIT: usize = 64 * 1024;

/// A body that can be sent again while it is small.
///
/// It is streamed through as it comes, and kept up to a limit: [`REPLAY_LIMIT`], or another by
/// [`with_limit`](Self::with_limit). A body that turns out to be larger is sent on to its end, and is not repeated; one
/// that says so beforehand is not kept at all.
///
/// # Example
///
/// ```
/// use axum::body::Body;
/// use stockade_clients::http::Replay;
/// use stockade_core::Error;
/// use stockade_retry::RetryLayer;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # type Request = http::Request<Replay<Body>>;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let client = ServiceBuilder::new()
///     .map_request(Replay::request::<Body>)
///     .layer(
///         RetryLayer::max_attempts(3)
///             .idempotent(Replay::idempotent::<Body>)
///             .clone_request(Replay::clone_request::<Body>),
///     )
///     .map_err(Error::Service)
///     .service_fn(async |_: Request| Ok::<_, std::io::Error>(()));
/// client.oneshot(http::Request::put("/").body(Body::from("text")).unwrap()).await.unwrap();
/// # }
/// ```
pub struct Replay<B> {
    shared: Arc<Mutex<Shared<B>>>,
    /// The body itself, while this is the one that reads it.
    body: Option<Pin<Box<B>>>,
    /// How many of the kept frames this has given out.
    given: usize,
    /// How many bytes these were.
    bytes: u64,
    /// Of the whole body, as it was before anything was read.
    size: SizeHint,
    limit: usize,
}

/// Why a body cannot be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayError {
    /// It is larger than the limit, in bytes.
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It failed when it was read first.
    Failed,
}

struct Shared<B> {
    /// The body, while nobody reads it.
    body: Option<Pin<Box<B>>>,
    kept: Vec<Kept>,
    bytes: usize,
    end: End,
    /// Those that wait for the body, or for more of it.
    waiting: Vec<Waker>,
}

enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// What is known of the end of the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotSeen,
    Seen,
    /// What was read is not kept any more.
    Lost(ReplayError),
}

// === impl Replay ===

impl<B: Body> Replay<B> {
    /// Keeps the body up to [`REPLAY_LIMIT`] bytes.
    pub fn new(body: B) -> Self {
        Self::with_limit(body, REPLAY_LIMIT)
    }

    /// Keeps the body up to `limit` bytes. With zero only a body without data can be sent again.
    pub fn with_limit(body: B, limit: usize) -> Self {
        let size = body.size_hint();
        let too_large = size.lower() > limit as u64;
        let end = if too_large { End::Lost(ReplayError::TooLarge { limit }) } else { End::NotSeen };
        let shared = Shared { body: None, kept: Vec::new(), bytes: 0, end, waiting: Vec::new() };
        let (shared, body) = (Arc::new(Mutex::new(shared)), Some(Box::pin(body)));
        Self { shared, body, given: 0, bytes: 0, size, limit }
    }
}

impl<B> Replay<B> {
    /// Whether it can be sent again, as far as is known by now.
    pub fn can_repeat(&self) -> bool {
        !matches!(self.lock().end, End::Lost(_))
    }

    /// Another handle of the same body, which begins at its beginning; `None` if it cannot be sent again.
    pub fn try_clone(&self) -> Option<Self> {
        self.can_repeat().then(|| Self {
            shared: Arc::clone(&self.shared),
            body: None,
            given: 0,
            bytes: 0,
            size: self.size,
            limit: self.limit,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared<B>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Replay<()> {
    /// The request with a body that can be sent again, for `ServiceBuilder::map_request` above the retry.
    pub fn request<B: Body>(request: Request<B>) -> Request<Replay<B>> {
        request.map(Replay::new)
    }

    /// A copy of a request whose body can be sent again, for `RetryLayer::clone_request`.
    pub fn clone_request<B>(request: &Request<Replay<B>>) -> Option<Request<Replay<B>>> {
        Some(super::request::copy(request, request.body().try_clone()?))
    }

    /// Whether a request may be repeated and its body can be, for `RetryLayer::idempotent`.
    pub fn idempotent<B>(request: &Request<Replay<B>>) -> bool {
        idempotent(request) && request.body().can_repeat()
    }
}

impl<B> Body for Replay<B>
where
    B: Body<Error: Into<Box<dyn StdError + Send + Sync>>>,
{
    type Data = Bytes;
    type Error = Box<dyn StdError + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.body.is_none() {
            // The waker is cloned and dropped without the lock.
            let waker = cx.waker().clone();
            let mut shared = this.lock();
            match shared.at(this.given) {
                At::Kept(frame) => {
                    drop(shared);
                    return Poll::Ready(Some(Ok(this.give(frame))));
                }
                At::End => return Poll::Ready(None),
                At::Lost(why) => return Poll::Ready(Some(Err(why.into()))),
                At::Beyond => match shared.body.take() {
                    Some(body) => {
                        drop(shared);
                        this.body = Some(body);
                    }
                    None => {
                        if !shared.waiting.iter().any(|other| other.will_wake(&waker)) {
                            shared.waiting.push(waker);
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        // Not under the lock: this is foreign code.
        let frame = ready!(body.as_mut().poll_frame(cx));
        let frame = frame.map(|frame| frame.map(Kept::new));
        let (limit, mut shared) = (this.limit, this.lock());
        let lost = match &frame {
            Some(Ok(frame)) => shared.keep(frame, limit),
            Some(Err(_)) => shared.lose(ReplayError::Failed),
            None => shared.finish(),
        };
        let waiting = mem::take(&mut shared.waiting);
        drop(shared);
        drop(lost);
        waiting.into_iter().for_each(Waker::wake);
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(this.give(frame))),
            Some(Err(error)) => {
                this.body = None;
                Some(Err(error.into()))
            }
            None => {
                this.body = None;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Some(body) => body.is_end_stream(),
            None => {
                let shared = self.lock();
                let at_end = shared.body.as_ref().is_some_and(|body| body.is_end_stream());
                self.given == shared.kept.len() && (at_end || shared.end == End::Seen)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut left = SizeHint::new();
        if let Some(upper) = self.size.upper() {
            left.set_upper(upper.saturating_sub(self.bytes));
        }
        left.set_lower(self.size.lower().saturating_sub(self.bytes));
        left
    }
}

impl<B> Replay<B> {
    fn give(&mut self, frame: Kept) -> Frame<Bytes> {
        self.given += 1;
        match frame {
            Kept::Data(data) => {
                self.bytes += data.len() as u64;
                Frame::data(data)
            }
            Kept::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

impl<B> Drop for Replay<B> {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        let mut shared = self.lock();
        shared.body = Some(body);
        let waiting = mem::take(&mut shared.waiting);
        drop(shared);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<B> fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("can_repeat", &self.can_repeat())
            .field("given", &self.bytes)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

/// What is at a place of the kept part.
enum At {
    Kept(Kept),
    /// More than was read so far.
    Beyond,
    End,
    Lost(ReplayError),
}

impl<B> Shared<B> {
    fn at(&self, place: usize) -> At {
        match (self.kept.get(place), self.end) {
            (_, End::Lost(why)) => At::Lost(why),
            (Some(Kept::Data(data)), _) => At::Kept(Kept::Data(data.clone())),
            (Some(Kept::Trailers(trailers)), _) => At::Kept(Kept::Trailers(trailers.clone())),
            (None, End::Seen) => At::End,
            (None, End::NotSeen) => At::Beyond,
        }
    }

    /// Keeps a frame, or nothing any more: then it returns what is to be dropped without the lock.
    fn keep(&mut self, frame: &Kept, limit: usize) -> Vec<Kept> {
        if matches!(self.end, End::Lost(_)) {
            return Vec::new();
        }
        match frame {
            Kept::Data(data) if data.len() > limit - self.bytes => {
                return self.lose(ReplayError::TooLarge { limit });
            }
            Kept::Data(data) => {
                self.bytes += data.len();
                self.kept.push(Kept::Data(data.clone()));
            }
            Kept::Trailers(trailers) => self.kept.push(Kept::Trailers(trailers.clone())),
        }
        Vec::new()
    }

    fn finish(&mut self) -> Vec<Kept> {
        if self.end == End::NotSeen {
            self.end = End::Seen;
        }
        Vec::new()
    }

    fn lose(&mut self, why: ReplayError) -> Vec<Kept> {
        self.end = End::Lost(why);
        mem::take(&mut self.kept)
    }
}

// === impl Kept ===

impl Kept {
    fn new<D: Buf>(frame: Frame<D>) -> Self {
        match frame.into_data() {
            Ok(mut data) => Self::Data(data.copy_to_bytes(data.remaining())),
            // There are no frames of other kinds.
            Err(frame) => Self::Trailers(frame.into_trailers().unwrap_or_default()),
        }
    }
}

// === impl ReplayError ===

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { limit } => {
                write!(f, "the request body is larger than {limit} bytes, and cannot be sent again")
            }
            Self::Failed => f.write_str("the request body has failed, and cannot be sent again"),
        }
    }
}

impl StdError for ReplayError {}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io};

    use futures_util::{StreamExt, stream};
    use http::Method;
    use http_body_util::{BodyExt, Full, StreamBody};
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;

    fn frames(sizes: &[usize]) -> impl Body<Data = Bytes, Error = Infallible> + use<> {
        let sizes = sizes.to_vec();
        StreamBody::new(stream::iter(sizes).map(|size| Ok(Frame::data(vec![7; size].into()))))
    }

    async fn read(body: Replay<impl Body<Error: Into<Box<dyn StdError + Send + Sync>>>>) -> usize {
        body.collect().await.unwrap().to_bytes().len()
    }

    fn why<T: fmt::Debug>(result: Result<T, Box<dyn StdError + Send + Sync>>) -> ReplayError {
        *result.unwrap_err().downcast_ref().unwrap()
    }

    #[tokio::test]
    async fn a_small_body_is_sent_again_from_its_beginning_wherever_it_was_cut() {
        for cut in 0..4 {
            let mut first = Replay::new(frames(&[1, 20, 300]));
            let second = first.try_clone().unwrap();
            for _ in 0..cut {
                first.frame().await;
            }
            drop(first);
            let third = second.try_clone().unwrap();
            assert_eq!((read(second).await, read(third).await), (321, 321), "{cut}");
        }
    }

    #[tokio::test]
    async fn a_body_above_the_limit_is_sent_to_its_end_and_not_again() {
        let first = Replay::with_limit(frames(&[60, 40, 1, 500]), 100);
        let second = first.try_clone().unwrap();
        assert_eq!(read(first).await, 601);
        assert!(!second.can_repeat() && second.try_clone().is_none());
        assert_eq!(why(second.collect().await), ReplayError::TooLarge { limit: 100 });
        // At the limit it is small enough.
        let first = Replay::with_limit(frames(&[60, 40]), 100);
        let second = first.try_clone().unwrap();
        assert_eq!((read(first).await, read(second).await), (100, 100));
    }

    #[tokio::test]
    async fn a_body_that_says_it_is_too_large_is_not_kept() {
        let body = Replay::with_limit(Full::<Bytes>::from("12345"), 4);
        assert!(body.try_clone().is_none());
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(read(body).await, 5);
    }

    #[tokio::test]
    async fn a_second_attempt_tells_the_same_length() {
        let mut first = Replay::new(Full::<Bytes>::from("12345"));
        let second = first.try_clone().unwrap();
        first.frame().await;
        assert_eq!((first.size_hint().exact(), first.is_end_stream()), (Some(0), true));
        assert_eq!((second.size_hint().exact(), second.is_end_stream()), (Some(5), false));
        drop(first);
        assert_eq!(read(second).await, 5);
    }

    #[tokio::test]
    async fn trailers_are_sent_again() {
        let trailers: HeaderMap =
            [(http::header::ETAG, "7".parse().unwrap())].into_iter().collect();
        let all = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from("a")))]);
        let last = trailers.clone();
        let all = all.chain(stream::once(async { Ok(Frame::trailers(last)) }));
        let first = Replay::new(Box::pin(StreamBody::new(all)));
        let second = first.try_clone().unwrap();
        for body in [first, second] {
            assert_eq!(body.collect().await.unwrap().trailers(), Some(&trailers));
        }
    }

    #[tokio::test]
    async fn a_body_that_failed_is_not_sent_again() {
        let items = [Ok(Frame::data(Bytes::from("a"))), Err(io::Error::other("disk"))];
        let first = Replay::new(StreamBody::new(stream::iter(items)));
        let second = first.try_clone().unwrap();
        assert_eq!(first.collect().await.unwrap_err().to_string(), "disk");
        assert_eq!(why(second.collect().await), ReplayError::Failed);
    }

    #[test]
    fn while_one_attempt_reads_the_body_another_waits_for_what_is_not_kept_yet() {
        let mut first = Replay::new(frames(&[1, 2]));
        let mut second = task::spawn(first.try_clone().unwrap());
        let poll = |body: &mut task::Spawn<Replay<_>>| body.enter(|cx, body| body.poll_frame(cx));
        let mut one = task::spawn(());
        let frame = one.enter(|cx, _| Pin::new(&mut first).poll_frame(cx));
        assert!(assert_ready!(frame).is_some());
        assert!(assert_ready!(poll(&mut second)).is_some());
        assert_pending!(poll(&mut second));
        drop(first);
        assert!(second.is_woken());
        assert!(assert_ready!(poll(&mut second)).is_some());
        assert!(assert_ready!(poll(&mut second)).is_none());
    }

    #[test]
    fn a_request_is_copied_while_its_body_is_small() {
        let request = |limit| {
            let body = Replay::with_limit(Full::<Bytes>::from("12345"), limit);
            Request::builder().method(Method::PUT).uri("/a").body(body).unwrap()
        };
        let copy = Replay::clone_request(&request(5)).unwrap();
        assert_eq!((copy.method(), copy.uri().path()), (&Method::PUT, "/a"));
        assert!(Replay::idempotent(&copy));
        assert!(Replay::clone_request(&request(4)).is_none());
        assert!(!Replay::idempotent(&request(4)));
    }
}
