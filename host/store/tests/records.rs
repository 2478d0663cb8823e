//! What the embedded store promises about its records.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how a test says that it failed"
)]

use imagefactory_model::image::{Destination, Image, ImageKind};
use imagefactory_model::order::{IdempotencyKey, Order, OrderKind, Submission};
use imagefactory_model::stage::{JournalEntry, JournalEvent};
use imagefactory_model::status::Status;
use imagefactory_store::StoreError;
use imagefactory_store::callbacks::Callbacks;
use imagefactory_store::changes::ChangeLog;
use imagefactory_store::embedded::EmbeddedStore;
use imagefactory_store::images::{ImageQuery, ImageStep, Images, Submitted};
use imagefactory_store::leftovers::{Leftover, Leftovers};
use imagefactory_store::nonces::Nonces;
use imagefactory_store::orders::Orders;
use imagefactory_store::space::Reservations;
use imagefactory_store::stages::{AttemptEnd, StageState, Stages};
use serde_json::json;
use uuid::Uuid;

struct Rig {
    store: EmbeddedStore,
    folder: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        Rig { store: EmbeddedStore::open(folder.path()).await.unwrap(), folder }
    }

    async fn reopened(self) -> Rig {
        self.store.close().await;
        Rig { store: EmbeddedStore::open(self.folder.path()).await.unwrap(), folder: self.folder }
    }

    async fn base(&self, callbacks: &[&str]) -> (Image, Order) {
        let image = Image::new_base("<template/>".into(), None);
        let mut order = Order::new(image.id, OrderKind::Build);
        order.callbacks = callbacks.iter().map(|url| (*url).to_owned()).collect();
        let submission = Submission {
            images: vec![image.clone()],
            orders: vec![order.clone()],
            idempotency: None,
        };
        assert_eq!(self.store.submit(submission).await.unwrap(), Submitted::Accepted);
        (image, order)
    }
}

#[tokio::test]
async fn an_image_reads_back_as_it_was_submitted() {
    let rig = Rig::new().await;
    let mut image = Image::new_provider(
        Some(Uuid::new_v4()),
        Some("<template/>".into()),
        Destination {
            target: "ec2".into(),
            provider: json!({"region": "x"}),
            credentials_name: Some("@prod".into()),
        },
        json!({"snapshot": true}).as_object().cloned(),
    );
    // The store keeps milliseconds.
    image.created_at = image.created_at.replace_nanosecond(5_000_000).unwrap();
    let order = Order::new(image.id, OrderKind::Snapshot);
    let submission =
        Submission { images: vec![image.clone()], orders: vec![order], idempotency: None };
    rig.store.submit(submission).await.unwrap();
    let rig = rig.reopened().await;
    assert_eq!(rig.store.image(image.id).await.unwrap(), Some(image));
    assert_eq!(rig.store.image(Uuid::new_v4()).await.unwrap(), None);
}

#[tokio::test]
async fn a_forbidden_step_is_refused_and_changes_nothing() {
    let rig = Rig::new().await;
    let (image, _) = rig.base(&[]).await;
    let refused = rig.store.step(image.id, ImageStep::to(Status::Complete)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Transition { from: Status::New, .. }), "{refused}");
    let after = rig.store.image(image.id).await.unwrap().unwrap();
    assert_eq!(after.status, Status::New);
}

#[tokio::test]
async fn a_bad_job_in_a_group_does_not_hurt_the_good_ones() {
    let rig = Rig::new().await;
    let (one, _) = rig.base(&[]).await;
    let (two, _) = rig.base(&[]).await;
    let (bad, good) = tokio::join!(
        rig.store.step(one.id, ImageStep::to(Status::Complete)),
        rig.store.step(two.id, ImageStep::to(Status::Pending)),
    );
    assert!(bad.is_err());
    assert_eq!(good.unwrap().image.status, Status::Pending);
}

#[tokio::test]
async fn callbacks_are_queued_with_each_status_change_and_keep_their_order() {
    let rig = Rig::new().await;
    let (image, _) = rig.base(&["http://one/", "http://two/", "http://one/"]).await;
    for status in [Status::Pending, Status::Building, Status::Complete] {
        rig.store.step(image.id, ImageStep::to(status)).await.unwrap();
    }
    let activity = ImageStep { activity: Some("x".into()), ..ImageStep::default() };
    rig.store.step(image.id, activity).await.unwrap();
    for expected in ["PENDING", "BUILDING", "COMPLETE"] {
        let due = rig.store.next_callbacks(10).await.unwrap();
        assert_eq!(due.len(), 2, "one for each URL");
        for callback in due {
            assert!(callback.document.contains(expected), "{}", callback.document);
            assert!(!callback.document.contains("href"));
            rig.store.callback_done(callback.seq).await.unwrap();
        }
    }
    assert!(rig.store.next_callbacks(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn lists_are_oldest_first_and_can_be_continued() {
    let rig = Rig::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(rig.base(&[]).await.0.id);
    }
    let query = ImageQuery { kind: Some(ImageKind::BaseImage), ..ImageQuery::default() };
    let all = rig.store.list(query.clone()).await.unwrap();
    assert_eq!(all.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids);
    let page = ImageQuery { after: Some(ids[1]), limit: Some(2), ..query.clone() };
    let page = rig.store.list(page).await.unwrap();
    assert_eq!(page.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids[2..4]);
    let unknown = ImageQuery { after: Some(Uuid::new_v4()), ..query };
    assert!(rig.store.list(unknown).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_same_idempotency_key_answers_with_the_same_image() {
    let rig = Rig::new().await;
    let submission = |request: &str| {
        let image = Image::new_base("<template/>".into(), None);
        let order = Order::new(image.id, OrderKind::Build);
        let idempotency = Some(IdempotencyKey {
            client: "c".into(),
            key: "k".into(),
            request_sha256: request.into(),
        });
        (image.id, Submission { images: vec![image], orders: vec![order], idempotency })
    };
    let (first, first_submission) = submission("a");
    let (second, second_submission) = submission("a");
    assert_eq!(rig.store.submit(first_submission).await.unwrap(), Submitted::Accepted);
    assert_eq!(rig.store.submit(second_submission).await.unwrap(), Submitted::Replayed(first));
    assert_eq!(rig.store.image(second).await.unwrap(), None, "a replay leaves nothing behind");
    let other = rig.store.submit(submission("b").1).await.unwrap_err();
    assert!(matches!(other, StoreError::IdempotencyMismatch(_)), "{other}");
}

#[tokio::test]
async fn a_stage_keeps_its_id_over_attempts_and_is_never_run_after_success() {
    let rig = Rig::new().await;
    let (image, order) = rig.base(&[]).await;
    let begin = || rig.store.begin_attempt(order.id, image.id, "create_base_image", "MockOS");
    let first = begin().await.unwrap();
    assert_eq!((first.attempt, first.state), (1, StageState::Running));
    rig.store.end_attempt(first.id, AttemptEnd::Retryable).await.unwrap();
    let second = begin().await.unwrap();
    assert_eq!((second.id, second.attempt, second.failures), (first.id, 2, 1));
    rig.store.end_attempt(first.id, AttemptEnd::Succeeded(json!({"a": 1}))).await.unwrap();
    let third = begin().await.unwrap();
    assert_eq!((third.attempt, third.state), (2, StageState::Succeeded));
    assert_eq!(third.outcome, Some(json!({"a": 1})));
}

#[tokio::test]
async fn what_was_journalled_and_not_removed_is_outstanding() {
    let rig = Rig::new().await;
    let (image, order) = rig.base(&[]).await;
    let stage = rig.store.begin_attempt(order.id, image.id, "push", "MockCloud").await.unwrap();
    let entry = |event, token: &str| JournalEntry {
        event,
        scratch: false,
        token: token.into(),
        kind: "thing".into(),
        resource_id: None,
        details: Some(json!({"region": "x"})),
    };
    for (event, token) in [
        (JournalEvent::WillCreate, "a"),
        (JournalEvent::WillCreate, "b"),
        (JournalEvent::Created, "a"),
        (JournalEvent::Removed, "b"),
    ] {
        rig.store.journal(stage.id, entry(event, token)).await.unwrap();
    }
    let rig = rig.reopened().await;
    let outstanding = rig.store.outstanding(stage.id).await.unwrap();
    assert_eq!(outstanding, [entry(JournalEvent::Created, "a")]);
}

#[tokio::test]
async fn a_nonce_is_good_once_also_after_a_restart() {
    let rig = Rig::new().await;
    assert!(rig.store.take_nonce("c", 100, "n").await.unwrap());
    assert!(!rig.store.take_nonce("c", 100, "n").await.unwrap());
    assert!(!rig.store.take_nonce("c", 101, "n").await.unwrap(), "in another second too");
    assert!(rig.store.take_nonce("d", 100, "n").await.unwrap());
    let rig = rig.reopened().await;
    assert!(!rig.store.take_nonce("c", 100, "n").await.unwrap());
    rig.store.forget_nonces_before(101).await.unwrap();
    assert!(rig.store.take_nonce("c", 100, "n").await.unwrap());
}

#[tokio::test]
async fn the_same_space_is_not_promised_twice() {
    let rig = Rig::new().await;
    let free = imagefactory_store::space::free_bytes(rig.folder.path()).unwrap();
    let owner = Uuid::new_v4();
    let most = free / 10 * 9;
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    rig.store.reserve(rig.folder.path(), one, owner, most).await.unwrap();
    let refused = rig.store.reserve(rig.folder.path(), two, owner, most).await.unwrap_err();
    assert!(refused.is_no_space(), "{refused}");
    rig.store.release_all_but(&[]).await.unwrap();
    rig.store.reserve(rig.folder.path(), two, owner, most).await.unwrap();
}

#[tokio::test]
async fn children_outlive_their_parent_and_lose_it() {
    let rig = Rig::new().await;
    let (base, _) = rig.base(&[]).await;
    let target = Image::new_target(Some(base.id), None, "ec2".into(), None);
    let order = Order::new(target.id, OrderKind::Build);
    let submission =
        Submission { images: vec![target.clone()], orders: vec![order], idempotency: None };
    rig.store.submit(submission).await.unwrap();
    rig.store.forget(base.id).await.unwrap();
    assert_eq!(rig.store.image(base.id).await.unwrap(), None);
    let orphan = rig.store.image(target.id).await.unwrap().unwrap();
    assert_eq!(orphan.parent, None);
}

#[tokio::test]
async fn a_store_of_a_newer_schema_is_refused_with_a_sentence() {
    let rig = Rig::new().await;
    rig.store.close().await;
    let database = rig.folder.path().join("imagefactory.sqlite");
    let url = format!("sqlite://{}", database.display());
    let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', 1, x'00', 0)",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let refused = EmbeddedStore::open(rig.folder.path()).await.unwrap_err();
    assert!(refused.to_string().contains("newer Image Factory"), "{refused}");
    assert!(refused.to_string().contains("9999"), "{refused}");
}

#[tokio::test]
async fn nobody_else_may_read_the_records() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new().await;
    rig.base(&[]).await;
    for entry in std::fs::read_dir(rig.folder.path()).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[tokio::test]
async fn every_change_of_every_process_is_in_the_log_in_order_and_without_gaps() {
    let rig = Rig::new().await;
    let other = EmbeddedStore::open(rig.folder.path()).await.unwrap();
    let (base, _) = rig.base(&[]).await;
    let target = Image::new_target(Some(base.id), None, "mock".into(), None);
    let order = Order::new(target.id, OrderKind::Build);
    let submission =
        Submission { images: vec![target.clone()], orders: vec![order], idempotency: None };
    other.submit(submission).await.unwrap();
    rig.store.step(base.id, ImageStep::to(Status::Pending)).await.unwrap();
    let progress = ImageStep { percent_complete: Some(7), ..ImageStep::default() };
    other.step(base.id, progress).await.unwrap();
    rig.store.step(base.id, ImageStep::to(Status::Complete)).await.unwrap_err();
    rig.store.forget(base.id).await.unwrap();

    let log = other.changes_after(0, 100).await.unwrap();
    let seen: Vec<_> =
        log.iter().map(|c| (c.seq, c.image_id, c.status_changed, c.document.is_some())).collect();
    assert_eq!(
        seen,
        [
            (1, base.id, true, true),
            (2, target.id, true, true),
            (3, base.id, true, true),
            (4, base.id, false, true),
            (5, base.id, false, false),
            (6, target.id, false, false),
        ]
    );
    assert!(log[2].document.as_ref().unwrap().contains("PENDING"));
    assert!(!log[0].document.as_ref().unwrap().contains("<template/>"));
    assert_eq!(rig.store.last_change().await.unwrap(), 6);
    let touched = rig.store.touched_after(1, 1).await.unwrap();
    assert_eq!((touched[0].image_id, touched[0].parent), (target.id, Some(base.id)));
    assert_eq!(touched.len(), 1);
}

#[tokio::test]
async fn the_log_of_changes_is_bounded_and_says_what_is_missing() {
    let rig = Rig::new().await;
    let images: Vec<Image> =
        (0..5000).map(|_| Image::new_base("<template/>".into(), None)).collect();
    for _ in 0..3 {
        let images = images.iter().map(|image| Image { id: Uuid::new_v4(), ..image.clone() });
        let images: Vec<Image> = images.collect();
        let orders = vec![Order::new(images[0].id, OrderKind::Build)];
        let submission = Submission { images, orders, idempotency: None };
        rig.store.submit(submission).await.unwrap();
    }
    let last = rig.store.last_change().await.unwrap();
    assert_eq!(last, 15_000);
    let first = rig.store.touched_after(0, 1).await.unwrap()[0].seq;
    assert!(first > 1, "nobody follows from there any more");
    assert!((8192..8192 + 256).contains(&(last - first + 1)), "{first}");
}

#[tokio::test]
async fn a_list_goes_on_from_a_place_whose_image_is_gone() {
    let rig = Rig::new().await;
    let (one, _) = rig.base(&[]).await;
    let (two, _) = rig.base(&[]).await;
    let first = ImageQuery { limit: Some(1), ..ImageQuery::default() };
    let place = rig.store.list(first).await.unwrap()[0].place;
    rig.store.forget(one.id).await.unwrap();
    let query = ImageQuery { beyond: Some(place), ..ImageQuery::default() };
    let rest: Vec<Uuid> =
        rig.store.list(query).await.unwrap().iter().map(|entry| entry.id).collect();
    assert_eq!(rest, [two.id]);
}

#[tokio::test]
async fn the_journal_of_a_leftover_outlives_its_image() {
    let rig = Rig::new().await;
    let (image, order) = rig.base(&[]).await;
    let stage = rig.store.begin_attempt(order.id, image.id, "push", "P").await.unwrap();
    let entry = JournalEntry {
        event: JournalEvent::Created,
        scratch: false,
        token: "t".into(),
        kind: "volume".into(),
        resource_id: None,
        details: None,
    };
    rig.store.journal(stage.id, entry).await.unwrap();
    let id = Uuid::new_v4();
    let leftover = Leftover {
        id,
        image_id: image.id,
        stage_id: stage.id,
        step: "push".into(),
        plugin_id: "P".into(),
        target: Some("mock".into()),
        provider: Some(json!({"region": 1})),
        parameters: None,
        scratch: false,
        tries: 0,
        due_at_ms: 5,
        error: "no".into(),
        given_up: false,
        created_at: time::OffsetDateTime::UNIX_EPOCH,
    };
    let cleanup = Order { id, ..Order::new(id, OrderKind::Cleanup) };
    assert!(rig.store.leave(leftover.clone(), cleanup.clone()).await.unwrap());
    assert!(!rig.store.leave(leftover.clone(), cleanup).await.unwrap(), "once a stage");
    rig.store.forget(image.id).await.unwrap();
    rig.store.request_cancel(image.id).await.unwrap();
    let rig = rig.reopened().await;
    assert_eq!(rig.store.outstanding(stage.id).await.unwrap().len(), 1);
    rig.store.leftover_tried(id, 9).await.unwrap();
    rig.store.leftover_failed(id, "still no", true).await.unwrap();
    let expected =
        Leftover { tries: 1, due_at_ms: 9, error: "still no".into(), given_up: true, ..leftover };
    assert_eq!(rig.store.leftovers().await.unwrap(), [expected]);
    assert!(rig.store.cancels_requested().await.unwrap().is_empty(), "it is none of the image's");
    assert!(rig.store.drop_leftover(id).await.unwrap());
    assert!(!rig.store.drop_leftover(id).await.unwrap());
    assert!(rig.store.outstanding(stage.id).await.unwrap().is_empty());
    assert_eq!(rig.store.cancels_requested().await.unwrap(), [id]);
}
