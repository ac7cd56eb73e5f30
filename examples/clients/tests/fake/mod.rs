//! A server that gives the answers of a list, one after the other, and writes down what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::Request,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
};
use tokio::{net::TcpListener, time::Instant};

/// One answer: its status, its `Retry-After`, and its body.
type Answer = (u16, Option<&'static str>, &'static str);

/// What the server was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) body: Bytes,
    pub(crate) at: Instant,
}

pub(crate) struct Fake {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

// === impl Fake ===

impl Fake {
    /// Gives these answers, and the last one again and again.
    pub(crate) async fn start(answers: &'static [Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let books = Arc::clone(&asked);
        let app = Router::new().fallback(async move |request: Request| {
            let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
            let mut books = books.lock().unwrap();
            let (status, hint, answer) = answers[books.len().min(answers.len() - 1)];
            books.push(Asked { body, at: Instant::now() });
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, "application/json".parse().unwrap());
            if let Some(hint) = hint {
                headers.insert("retry-after", hint.parse().unwrap());
            }
            (StatusCode::from_u16(status).unwrap(), headers, answer)
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { addr, asked }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}
