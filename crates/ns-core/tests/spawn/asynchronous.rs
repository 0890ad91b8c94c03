//! Waiting in tokio, on one thread.

use std::time::Duration;

use ns_core::{Command, ExitStatus, Process, Stdio};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::sh;

/// `faultkit::isolated!` of a process that has had a runtime. The first one makes sockets for signals, where another crate of
/// the build has switched that on in tokio, and they stay: nothing that the test has left behind.
macro_rules! isolated {
    ($($all:tt)+) => {{
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build());
        faultkit::isolated!($($all)+)
    }};
}

/// On one thread, as the smallest programs have it.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

#[test]
fn statuses_arrive_and_stay() {
    isolated!(|| {
        block_on(async {
            let mut child = sh("exit 5").spawn().expect("start");
            assert_eq!(child.wait_async().await.expect("wait"), ExitStatus::Exited(5));
            assert_eq!(child.wait_async().await.expect("again"), ExitStatus::Exited(5));
            assert_eq!(child.wait().expect("again"), ExitStatus::Exited(5));
            let mut reader = Command::new("cat").stdin(Stdio::Pipe).spawn().expect("start");
            assert!(reader.wait_async().await.expect("its input ends").success());
        });
    });
}

#[test]
fn a_wait_that_was_given_up_is_taken_up_again() {
    isolated!(|| {
        block_on(async {
            let mut child = Command::new("sleep").arg("100").spawn().expect("start");
            for _ in 0..3 {
                assert!(timeout(Duration::from_millis(10), child.wait_async()).await.is_err(), "it runs");
            }
            let process = Process::open(child.pid()).expect("open");
            assert!(timeout(Duration::from_millis(10), process.wait_end_async()).await.is_err(), "it runs");
            child.signal(libc::SIGTERM).expect("signal");
            let (first, second) = (process.wait_end_async(), process.wait_end_async());
            first.await.expect("ended");
            second.await.expect("ended");
            assert_eq!(child.wait_async().await.expect("wait").signal(), Some(libc::SIGTERM));
        });
    });
}

#[test]
fn others_run_meanwhile() {
    isolated!(|| {
        block_on(async {
            // The child ends when the other task has written to it: a wait that blocked the thread would never end.
            let mut child = sh("read line; exit 9").stdin(Stdio::Pipe).spawn().expect("start");
            let stdin = child.take_stdin().expect("a pipe");
            let mut tasks = JoinSet::new();
            tasks.spawn(async move { child.wait_async().await.expect("wait") });
            tasks.spawn(async move {
                tokio::task::yield_now().await;
                std::io::Write::write_all(&mut { stdin }, b"line\n").expect("write");
                ExitStatus::Exited(9)
            });
            while let Some(status) = tasks.join_next().await {
                assert_eq!(status.expect("task"), ExitStatus::Exited(9));
            }
        });
    });
}

#[test]
fn five_thousand_of_the_shortest_lives_are_seen_by_one_thread() {
    isolated!(limit_secs = 240, || {
        block_on(async {
            let each = crate::fewer_where_emulated(100);
            let mut tasks = JoinSet::new();
            for _ in 0..50 {
                tasks.spawn(async move {
                    let plan = Command::new("/bin/true").plan().expect("plan");
                    for _ in 0..each {
                        let mut child = plan.spawn().expect("start");
                        let status = timeout(Duration::from_secs(60), child.wait_async()).await;
                        assert!(status.expect("in time").expect("wait").success());
                    }
                });
            }
            while let Some(done) = tasks.join_next().await {
                done.expect("task");
            }
        });
    });
}

#[test]
fn outside_of_a_runtime_it_is_an_error() {
    isolated!(|| {
        let mut child = Command::new("sleep").arg("100").spawn().expect("start");
        let error = poll_once(child.wait_async()).expect("at once").expect_err("no runtime");
        assert!(error.to_string().contains("tokio runtime"), "{error}");
        child.kill().expect("kill");
        child.wait().expect("wait");
    });
}

fn poll_once<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match work.as_mut().poll(&mut context) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}
