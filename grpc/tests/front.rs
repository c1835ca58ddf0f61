//! The front from the outside: a server on a free port of loopback, and a client of its own for each test.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use onecard_core::{Engine, Options, Secrets};
use onecard_grpc::v1::admin_service_client::AdminServiceClient;
use onecard_grpc::v1::terminal_service_client::TerminalServiceClient;
use onecard_grpc::{ServeError, Server, serve, v1};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const DATE: u32 = 20240229;
const CARD: &str = "0012345678";
const GRACE: Duration = Duration::from_secs(5);
const TABLES: &str = r#"{
    "money": {"name": "CNY", "scale": 2}, "points": {"name": "POINTS", "scale": 4},
    "products": [{"id": 1, "name": "standard", "discount": 50000000000, "accrual": 100000000000000,
                  "purchase_max": 0, "top_up_max": 0, "balance_max": 0}],
    "top_up_bonus": [{"from": 50000, "bonus": 5000, "rate": 0}],
    "waterfall": [{"pay": "bonus", "share": 1000000000000, "price": 0, "min_points": 0},
                  {"pay": "principal", "share": 1000000000000, "price": 0, "min_points": 0}],
    "compounding_rate": 0, "time_tolerance_s": 86400}"#;

fn micros() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_micros() as u64
}

fn options() -> Options {
    Options {
        journal_bytes_max: 1 << 30,
        checkpoint_bytes_max: 1 << 30,
        checkpoint_entries: 1_000_000,
        clock: micros,
        new_id: || [7; 16],
        secrets: Secrets::default(),
    }
}

/// A served engine with one store, one terminal (1), rules and a card with 1,000.00 and a bonus of 50.00.
struct Front {
    server: Arc<Server>,
    engine: Engine,
    channel: Channel,
    /// Last trace used.
    trace: u32,
    _directory: TempDir,
}

impl Front {
    async fn open() -> Front {
        Front::open_with(options()).await
    }

    async fn open_with(options: Options) -> Front {
        let directory = tempfile::tempdir().expect("a directory");
        let engine = Engine::open(directory.path(), options).expect("it opens");
        let server = Arc::new(serve(engine.clone(), "127.0.0.1:0").expect("it serves"));
        let channel = connect(&server).await.expect("it accepts");
        let mut front = Front { server, engine, channel, trace: 0, _directory: directory };
        front.set_up().await;
        front
    }

    async fn set_up(&mut self) {
        let codes = self.admin().register(organisation()).await.expect("answered").into_inner().codes;
        assert_eq!(codes, [0; 4]);
        let rules = v1::PublishRulesRequest { programme: 1, version: 1, text: "a".into(), tables: TABLES.into() };
        assert_eq!(self.admin().publish_rules(rules).await.expect("answered").into_inner().code, 0);
        let issue = v1::IssueRequest { header: self.header(), card: CARD.into(), product: 1, ..Default::default() };
        let issued = self.terminal().issue(issue).await.expect("answered").into_inner().answer.expect("there");
        assert_eq!((issued.code, issued.message.as_str()), (0, "approved"));
        let top_up = v1::TopUpRequest { header: self.header(), card: CARD.into(), amount: 100_000, ..Default::default() };
        let topped_up = self.terminal().top_up(top_up).await.expect("answered").into_inner().answer.expect("there");
        assert_eq!((topped_up.code, topped_up.principal_balance, topped_up.bonus_balance), (0, 100_000, 5_000));
    }

    fn terminal(&self) -> TerminalServiceClient<Channel> {
        TerminalServiceClient::new(self.channel.clone())
    }

    fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel.clone())
    }

    /// A header with a new key.
    fn header(&mut self) -> Option<v1::Header> {
        self.trace += 1;
        let key = Some(v1::header::Key::Trace(self.trace));
        Some(v1::Header { terminal: 1, business_date: DATE, key, ..Default::default() })
    }

    fn purchase(&mut self, amount: i64) -> v1::PurchaseRequest {
        v1::PurchaseRequest { header: self.header(), card: CARD.into(), amount, ..Default::default() }
    }

    /// A message of the stream with purchases of these amounts.
    fn message(&mut self, amounts: &[i64]) -> v1::TransactRequest {
        let one = |amount: &i64| transaction(v1::transaction::Request::Purchase(self.purchase(*amount)));
        v1::TransactRequest { transactions: amounts.iter().map(one).collect() }
    }

    async fn buy(&mut self, amount: i64) -> Result<v1::Answer, Status> {
        let request = self.purchase(amount);
        Ok(self.terminal().purchase(request).await?.into_inner().answer.expect("there"))
    }

    async fn balance(&self) -> v1::Answer {
        let header = Some(v1::Header { terminal: 1, ..Default::default() });
        let request = v1::GetBalanceRequest { header, card: CARD.into(), alias: None };
        self.terminal().get_balance(request).await.expect("answered").into_inner().answer.expect("there")
    }

    async fn entries(&self) -> u64 {
        self.trial_balance().await.entries
    }

    async fn trial_balance(&self) -> v1::GetTrialBalanceResponse {
        let request = v1::GetTrialBalanceRequest { programme: 1 };
        self.admin().get_trial_balance(request).await.expect("answered").into_inner()
    }

    /// A Transact stream; what is sent into the channel goes out on it.
    async fn transact(&self) -> (mpsc::Sender<v1::TransactRequest>, tonic::Streaming<v1::TransactResponse>) {
        let (sender, receiver) = mpsc::channel(100);
        let answers = self.terminal().transact(outgoing(receiver)).await.expect("it opens").into_inner();
        (sender, answers)
    }

    /// Stops the server from another thread; the runtime of the test goes on.
    fn stop(&self, grace: Duration) -> JoinHandle<bool> {
        let server = self.server.clone();
        tokio::task::spawn_blocking(move || server.stop(grace))
    }
}

fn outgoing<T>(mut receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> {
    struct Receiving<F>(F);
    impl<T, F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin> Stream for Receiving<F> {
        type Item = T;
        fn poll_next(mut self: std::pin::Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<T>> {
            (self.0)(context)
        }
    }
    Receiving(move |context: &mut std::task::Context<'_>| receiver.poll_recv(context))
}

async fn connect(server: &Server) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{}", server.address())).expect("an address").connect().await
}

fn transaction(request: v1::transaction::Request) -> v1::Transaction {
    v1::Transaction { request: Some(request) }
}

fn registration(what: v1::registration::What) -> v1::Registration {
    v1::Registration { what: Some(what) }
}

fn organisation() -> v1::RegisterRequest {
    use v1::registration::What;
    let name = || "长宁店".to_owned();
    let all = [
        What::Programme(v1::Programme { programme: 1, name: name(), business_date: DATE }),
        What::Merchant(v1::Merchant { programme: 1, merchant: 1, name: name() }),
        What::Store(v1::Store { programme: 1, store: 1, merchant: 1, name: name() }),
        What::Terminal(v1::Terminal { programme: 1, terminal: 1, store: 1 }),
    ];
    v1::RegisterRequest { registrations: all.into_iter().map(registration).collect() }
}

fn number(halves: Option<v1::Int128>) -> i128 {
    let halves = halves.expect("there");
    (i128::from(halves.high) << 64) + i128::from(halves.low)
}

/// The next message, or the status that the stream ends with; fails if it takes long.
async fn next<T>(stream: &mut tonic::Streaming<T>) -> Option<Result<T, Status>> {
    timeout(GRACE, stream.next()).await.expect("it comes soon")
}

fn codes(response: Option<Result<v1::TransactResponse, Status>>) -> Vec<u32> {
    let response = response.expect("not the end").expect("an answer");
    response.answers.iter().map(|answer| answer.code).collect()
}

#[tokio::test]
async fn every_transaction_is_answered() {
    let mut front = Front::open().await;
    // 5% discount: 20,000 is 19,000 due, of which the bonus pays 5,000.
    let bought = front.buy(20_000).await.unwrap();
    assert_eq!((bought.code, bought.amount, bought.discount), (0, 19_000, 1_000));
    assert_eq!((bought.bonus, bought.principal, bought.business_date), (-5_000, -14_000, DATE));

    let by_sequence = Some(v1::Original { name: Some(v1::original::Name::Sequence(bought.sequence)) });
    let refund = v1::RefundRequest { header: front.header(), original: by_sequence, amount: 19_000 };
    let refunded = front.terminal().refund(refund).await.unwrap().into_inner().answer.unwrap();
    assert_eq!((refunded.code, refunded.bonus, refunded.principal_balance), (0, 5_000, 100_000));

    let key = v1::OriginalKey { business_date: DATE, terminal: 1, key: Some(v1::original_key::Key::Trace(front.trace)) };
    let by_key = Some(v1::Original { name: Some(v1::original::Name::Key(key)) });
    let reverse = v1::ReverseRequest { header: front.header(), original: by_key };
    let reversed = front.terminal().reverse(reverse).await.unwrap().into_inner().answer.unwrap();
    assert_eq!((reversed.code, reversed.amount, reversed.principal_balance), (0, 19_000, 86_000));

    let frozen = v1::CardStatus::Frozen.into();
    let status = v1::SetStatusRequest { header: front.header(), card: CARD.into(), status: frozen, alias: None };
    assert_eq!(front.terminal().set_status(status).await.unwrap().into_inner().answer.unwrap().code, 0);
    let refused = front.buy(100).await.unwrap();
    assert_eq!((refused.code, refused.message.as_str()), (62, "restricted card"));

    let fund = v1::FundRequest { header: front.header(), amount: 77 };
    let funded = front.terminal().fund(fund).await.unwrap().into_inner().answer.unwrap();
    assert_eq!((funded.code, funded.amount), (0, 77));

    let balance = front.balance().await;
    assert_eq!((balance.code, balance.sequence, balance.business_date), (0, 0, 0));
    assert_eq!((balance.principal_balance, balance.bonus_balance), (86_000, 0));
}

const CARD_TABLES: &str = r#"{
    "money": {"name": "CNY", "scale": 2}, "points": {"name": "POINTS", "scale": 4},
    "products": [{"id": 1, "name": "standard", "discount": 0, "accrual": 0,
                  "purchase_max": 0, "top_up_max": 0, "balance_max": 0, "pin_above": 10000},
                 {"id": 2, "name": "staff", "discount": 0, "accrual": 0,
                  "purchase_max": 0, "top_up_max": 0, "balance_max": 0, "staff": true}],
    "top_up_bonus": [],
    "waterfall": [{"pay": "principal", "share": 1000000000000, "price": 0, "min_points": 0}],
    "compounding_rate": 0, "time_tolerance_s": 86400,
    "units": [{"id": 16, "name": "5 off", "kind": "coupon", "value": 500}],
    "bundles": [{"id": 1, "name": "welcome", "grants": [{"unit": 16, "amount": 3, "days": 30}]}]}"#;
const STAFF: &str = "90000001";

fn with_keys() -> Options {
    Options { secrets: Secrets::new([(1, [5; 32])]), ..options() }
}

impl Front {
    /// With units, PINs and a staff card; the card has 100.00 and PIN 0042.
    async fn whole() -> Front {
        let mut front = Front::open_with(with_keys()).await;
        let rules = v1::PublishRulesRequest { programme: 1, version: 2, text: "b".into(), tables: CARD_TABLES.into() };
        let answer = front.admin().publish_rules(rules).await.unwrap().into_inner();
        assert_eq!((answer.code, answer.message.as_str()), (0, "approved"));
        let issue = v1::IssueRequest { header: front.header(), card: STAFF.into(), product: 2, ..Default::default() };
        assert_eq!(front.terminal().issue(issue).await.unwrap().into_inner().answer.unwrap().code, 0);
        let new_pin = "0042".into();
        let set = v1::SetPinRequest { header: front.header(), card: CARD.into(), new_pin, ..Default::default() };
        assert_eq!(front.terminal().set_pin(set).await.unwrap().into_inner().answer.unwrap().code, 0);
        front
    }

    fn alias() -> Option<v1::Alias> {
        Some(v1::Alias { kind: 1, value: "138 0000 0000".into() })
    }
}

#[tokio::test]
async fn a_purchase_with_everything_is_one_call() {
    use v1::PartKind;
    let mut front = Front::whole().await;
    let grant = v1::GrantRequest { header: front.header(), card: CARD.into(), bundle: 1, count: 1, ..Default::default() };
    let granted = front.terminal().grant(grant).await.unwrap().into_inner().answer.unwrap();
    let lot = granted.parts[0];
    assert_eq!((granted.code, lot.kind(), lot.purse, lot.amount, lot.balance), (0, PartKind::Unit, 16, 3, 3));
    assert_eq!((lot.valid_from, lot.expires), (0, 20240329));

    let codes = v1::IssueCodesRequest { header: front.header(), unit: 16, count: 2, expires: 0, with_texts: true };
    let issued = front.terminal().issue_codes(codes.clone()).await.unwrap().into_inner();
    assert_eq!((issued.answer.as_ref().unwrap().amount, issued.first), (2, 1));
    let list = v1::ListCodesRequest { programme: 0, unit: 16, first: 1, count: 2 };
    let texts = front.admin().list_codes(list).await.unwrap().into_inner().codes;
    assert_eq!((issued.texts.len(), &issued.texts), (2, &texts));
    let again = front.terminal().issue_codes(codes.clone()).await.unwrap().into_inner();
    assert_eq!((again.first, again.texts), (1, texts.clone()), "a retry tells the same");
    let many = v1::IssueCodesRequest { header: front.header(), count: 100_001, ..codes.clone() };
    assert_eq!(front.terminal().issue_codes(many).await.unwrap_err().code(), Code::InvalidArgument);
    let none = v1::IssueCodesRequest { header: front.header(), unit: 99, ..codes };
    let refused = front.terminal().issue_codes(none).await.unwrap().into_inner();
    assert_eq!((refused.answer.unwrap().code, refused.first, refused.texts.len()), (12, 0, 0));

    let bind = v1::BindAliasRequest { header: front.header(), card: CARD.into(), alias: Front::alias(), ..Default::default() };
    assert_eq!(front.terminal().bind_alias(bind).await.unwrap().into_inner().answer.unwrap().code, 0);

    let mut request = v1::PurchaseRequest {
        header: front.header(),
        alias: Some(v1::Alias { kind: 1, value: "13800000000".into() }),
        amount: 120_000,
        coupons: vec![v1::Coupon { unit: 16, count: 1 }],
        codes: vec![texts[0].clone()],
        cash: 100_000,
        staff: STAFF.into(),
        accept_partial: true,
        ..Default::default()
    };
    let refused = front.terminal().purchase(request.clone()).await.unwrap().into_inner().answer.unwrap();
    assert_eq!(refused.code, 70, "more than 100.00 needs the PIN");
    request.pin = "0042".into();
    request.header = front.header();
    let bought = front.terminal().purchase(request.clone()).await.unwrap().into_inner().answer.unwrap();
    assert_eq!((bought.code, bought.amount, bought.cash, bought.unpaid, bought.kind), (0, 120_000, 19_000, 0, 3));
    let kinds: Vec<_> = bought.parts.iter().map(v1::Part::kind).collect();
    assert!(
        kinds.contains(&PartKind::Unit) && kinds.contains(&PartKind::PaidByUnit) && kinds.contains(&PartKind::Cash),
        "{kinds:?}"
    );
    let again = front.terminal().purchase(request.clone()).await.unwrap().into_inner().answer.unwrap();
    assert_eq!(again, v1::Answer { replayed: true, ..bought });

    request.header = front.header();
    let used = front.terminal().purchase(request).await.unwrap().into_inner().answer.unwrap();
    assert_eq!((used.code, used.reason()), (57, v1::Reason::Used));
    let staff = front.admin().list_staff(v1::ListStaffRequest { programme: 1 }).await.unwrap().into_inner();
    assert_eq!((staff.code, staff.staff.len(), staff.staff[0].card.as_str(), staff.staff[0].sales), (0, 1, STAFF, 1));
    let units = front.trial_balance().await.units;
    assert_eq!((units.len(), number(units[0].cards), number(units[0].pool), number(units[0].codes)), (1, 2, -3, 1));
}

#[tokio::test]
async fn a_stream_carries_items() {
    let mut front = Front::whole().await;
    let (sender, mut answers) = front.transact().await;
    let mut message = front.message(&[20_000, 20_000, 20_000, 20_000]);
    for (at, pin) in [(1, "0042"), (2, "42"), (3, "0043")] {
        let Some(v1::transaction::Request::Purchase(request)) = &mut message.transactions[at].request else { unreachable!() };
        request.pin = pin.into();
    }
    sender.send(message).await.unwrap();
    assert_eq!(codes(next(&mut answers).await), [70, 0, 30, 55]);
}

#[tokio::test]
async fn holds_numbers_and_bulk_go_through() {
    let mut front = Front::whole().await;
    let mut terminal = front.terminal();
    let hold = v1::AuthoriseRequest { header: front.header(), card: CARD.into(), amount: 9_000, ..Default::default() };
    let held = terminal.authorise(hold).await.unwrap().into_inner().answer.unwrap();
    assert_eq!((held.code, held.amount, held.principal), (0, 9_000, 0));
    let original = Some(v1::Original { name: Some(v1::original::Name::Sequence(held.sequence)) });
    let capture = v1::CaptureRequest { header: front.header(), original: original.clone(), amount: 4_000, r#final: false };
    assert_eq!(terminal.capture(capture).await.unwrap().into_inner().answer.unwrap().principal, -4_000);
    let void = v1::VoidRequest { header: front.header(), original };
    assert_eq!(terminal.void(void).await.unwrap().into_inner().answer.unwrap().code, 0);

    let new_card = "0012345679".to_owned();
    let old = v1::CardStatus::Stolen.into();
    let replace = v1::ReplaceRequest { header: front.header(), card: CARD.into(), new_card: new_card.clone(), old, alias: None };
    assert_eq!(terminal.replace(replace).await.unwrap().into_inner().answer.unwrap().code, 0);
    assert_eq!(front.buy(100).await.unwrap().code, 43);

    let cards =
        [(new_card.as_str(), 300), (STAFF, 700)].map(|(card, amount)| v1::BulkTopUpCard { card: card.into(), amount }).to_vec();
    let bulk = v1::BulkTopUpRequest { header: front.header(), amount: 1_000, cards };
    let topped_up = terminal.bulk_top_up(bulk).await.unwrap().into_inner().answer.unwrap();
    assert_eq!((topped_up.code, topped_up.amount, topped_up.parts.len()), (0, 1_000, 2));
    assert_eq!((topped_up.parts[1].card, topped_up.parts[1].balance), (2, 700));

    let source = Some(v1::FurtherCard { card: new_card.clone(), pin: "0042".into() });
    let transfer =
        v1::TransferRequest { header: front.header(), card: STAFF.into(), source, purse: 1, amount: 50, ..Default::default() };
    assert_eq!(terminal.transfer(transfer).await.unwrap().into_inner().answer.unwrap().principal_balance, 750);
    let holder = v1::SetHolderRequest { header: front.header(), card: STAFF.into(), member: 7, ..Default::default() };
    assert_eq!(terminal.set_holder(holder).await.unwrap().into_inner().answer.unwrap().code, 0);
    let close = v1::CloseCardRequest { header: front.header(), card: STAFF.into(), alias: None };
    let closed = terminal.close_card(close).await.unwrap().into_inner().answer.unwrap();
    assert_eq!((closed.code, closed.amount, closed.principal_balance), (0, 750, 0));
}

#[tokio::test]
async fn without_keys_the_caller_is_told_what_to_do() {
    let mut front = Front::open().await;
    let told = |status: Status| {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains("--secrets") && !status.message().contains("4711"), "{}", status.message());
    };
    let request = v1::PurchaseRequest { pin: "4711".into(), ..front.purchase(1) };
    told(front.terminal().purchase(request.clone()).await.unwrap_err());
    let request_by_alias = v1::PurchaseRequest { card: String::new(), alias: Front::alias(), ..front.purchase(1) };
    told(front.terminal().purchase(request_by_alias).await.unwrap_err());
    let list = v1::ListCodesRequest { programme: 1, unit: 16, first: 1, count: 1 };
    told(front.admin().list_codes(list).await.unwrap_err());
    let issue = v1::IssueCodesRequest { header: front.header(), unit: 16, count: 1, expires: 0, with_texts: true };
    told(front.terminal().issue_codes(issue).await.unwrap_err());
    let (sender, mut answers) = front.transact().await;
    sender.send(front.message(&[1])).await.unwrap();
    let transactions = vec![transaction(v1::transaction::Request::Purchase(request))];
    sender.send(v1::TransactRequest { transactions }).await.unwrap();
    assert_eq!(codes(next(&mut answers).await), [0]);
    told(next(&mut answers).await.unwrap().unwrap_err());
    assert!(next(&mut answers).await.is_none());
}

#[tokio::test]
async fn a_list_of_codes_has_limits() {
    let front = Front::whole().await;
    let list = |unit, first, count| v1::ListCodesRequest { programme: 1, unit, first, count };
    assert_eq!(front.admin().list_codes(list(16, 1, 100_000)).await.unwrap().into_inner().codes.len(), 100_000);
    for wrong in [list(15, 1, 1), list(65_536, 1, 1), list(16, 0, 1), list(16, 1, 0), list(16, 1, 100_001), list(16, u64::MAX, 2)]
    {
        assert_eq!(front.admin().list_codes(wrong).await.unwrap_err().code(), Code::InvalidArgument, "{wrong:?}");
    }
}

#[tokio::test]
async fn a_retry_gets_the_first_answer() {
    let mut front = Front::open().await;
    let id = Some(v1::header::Key::Id(vec![9; 16].into()));
    let mut request = front.purchase(1_000);
    request.header.as_mut().unwrap().key = id;
    let first = front.terminal().purchase(request.clone()).await.unwrap().into_inner().answer.unwrap();
    front.buy(2_000).await.unwrap();
    let again = front.terminal().purchase(request.clone()).await.unwrap().into_inner().answer.unwrap();
    assert_eq!(again, v1::Answer { replayed: true, ..first });
    let other = v1::PurchaseRequest { amount: 1_001, ..request };
    assert_eq!(front.terminal().purchase(other).await.unwrap().into_inner().answer.unwrap().code, 94);
}

#[tokio::test]
async fn head_office_sees_the_books() {
    let mut front = Front::open().await;
    let bought = front.buy(20_000).await.unwrap();

    let request = v1::GetStatementRequest { programme: 1, card: CARD.into(), limit: 2, before: 0 };
    let statement = front.admin().get_statement(request).await.unwrap().into_inner();
    assert_eq!((statement.code, statement.lines.len()), (0, 2));
    let newest = &statement.lines[0];
    assert_eq!((newest.sequence, newest.kind, newest.terminal, newest.store), (bought.sequence, 3, 1, 1));
    assert_eq!((newest.business_date, newest.value_date, newest.amount), (DATE, DATE, 19_000));
    assert_eq!((newest.points, newest.points_balance), (bought.points_earned, bought.points_balance));
    let request = v1::GetStatementRequest { programme: 1, card: CARD.into(), limit: 0, before: newest.sequence };
    assert_eq!(front.admin().get_statement(request).await.unwrap().into_inner().lines.len(), 2);

    let request = v1::ListPositionsRequest { programme: 1 };
    let live = front.admin().list_positions(request).await.unwrap().into_inner();
    let store = live.stores[0];
    assert_eq!((live.code, live.stores.len(), store.store), (0, 1, 1));
    assert_eq!((number(store.sold), number(store.collected), number(store.net)), (19_000, 100_000, -81_000));

    let request = v1::ListLiabilitiesRequest { programme: 1 };
    let owed = front.admin().list_liabilities(request).await.unwrap().into_inner();
    assert_eq!((owed.code, owed.growth_date, owed.merchants.len(), owed.merchants[0].merchant), (0, 0, 1, 1));
    assert_eq!((number(owed.merchants[0].points), number(owed.merchants[0].growth)), (bought.points_balance.into(), 0));

    let balance = front.trial_balance().await;
    assert_eq!((balance.code, balance.open_date, balance.cards, balance.growing), (0, DATE, 1, false));
    assert_eq!((number(balance.money_sum), number(balance.points_sum)), (0, 0));
    let principal = balance.totals.iter().find(|total| total.account == 1).expect("it has one");
    assert_eq!(number(principal.total), 86_000);

    let request = v1::CloseDayRequest { programme: 1, business_date: DATE };
    let closed = front.admin().close_day(request).await.unwrap().into_inner();
    assert_eq!((closed.code, closed.business_date, closed.next_business_date), (0, DATE, 20240301));
    assert_eq!((closed.replayed, closed.stores.len(), closed.growth), (false, 1, None));
    assert_eq!(number(closed.stores[0].net), -81_000);
    assert_eq!(number(closed.issuer_net), 81_000);
    assert_eq!(number(closed.members) + number(closed.bonus) + number(closed.points), 81_000);
    let again = front.admin().close_day(request).await.unwrap().into_inner();
    assert_eq!((again.replayed, again.sequence, again.stores), (true, closed.sequence, closed.stores));
    let request = v1::CloseDayRequest { programme: 1, business_date: 20240305 };
    let early = front.admin().close_day(request).await.unwrap().into_inner();
    assert_eq!((early.code, early.next_business_date), (12, 0));
}

#[tokio::test]
async fn registrations_are_answered_one_by_one() {
    use v1::registration::What;
    let front = Front::open().await;
    let mut request = organisation();
    request.registrations.insert(1, v1::Registration { what: None });
    let unknown = v1::Store { programme: 1, store: 2, merchant: 9, name: "x".into() };
    request.registrations.push(registration(What::Store(unknown)));
    let outside = v1::Terminal { programme: 65_536, terminal: 2, store: 1 };
    request.registrations.push(registration(What::Terminal(outside)));
    let no_day = v1::Programme { programme: 2, name: "x".into(), business_date: 20240230 };
    request.registrations.push(registration(What::Programme(no_day)));
    let codes = front.admin().register(request).await.unwrap().into_inner().codes;
    assert_eq!(codes, [0, 30, 0, 0, 0, 12, 30, 30]);

    let terminal = |terminal| registration(What::Terminal(v1::Terminal { programme: 1, terminal, store: 1 }));
    let full = v1::RegisterRequest { registrations: (1..=10_000).map(terminal).collect() };
    assert_eq!(front.admin().register(full).await.unwrap().into_inner().codes, vec![0; 10_000]);
    let more = v1::RegisterRequest { registrations: (1..=10_001).map(terminal).collect() };
    assert_eq!(front.admin().register(more).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn wrong_rules_are_explained() {
    let front = Front::open().await;
    let rules = v1::PublishRulesRequest { programme: 1, version: 2, text: "a".into(), tables: "{}".into() };
    let refused = front.admin().publish_rules(rules).await.unwrap().into_inner();
    assert_eq!(refused.code, 30);
    assert!(refused.message.contains("money"), "{}", refused.message);
    let rules = v1::PublishRulesRequest { programme: 1, version: 9, text: "a".into(), tables: TABLES.into() };
    assert_eq!(front.admin().publish_rules(rules).await.unwrap().into_inner().code, 12);
}

#[tokio::test]
async fn every_version_of_the_rules_can_be_read() {
    let front = Front::open().await;
    let text = "# another\r\n\u{5361}\n";
    let rules = v1::PublishRulesRequest { programme: 1, version: 2, text: text.into(), tables: TABLES.into() };
    assert_eq!(front.admin().publish_rules(rules).await.unwrap().into_inner().code, 0);
    let listed = front.admin().list_rules(v1::ListRulesRequest { programme: 1 }).await.unwrap().into_inner();
    let told: Vec<_> = listed.versions.iter().map(|one| (one.version, one.business_date)).collect();
    assert_eq!((listed.code, told), (0, vec![(1, DATE), (2, DATE)]));
    let get = async |programme, version| {
        let request = v1::GetRulesRequest { programme, version };
        front.admin().get_rules(request).await.unwrap().into_inner()
    };
    let newest = get(1, 0).await;
    assert_eq!((newest.code, newest.version, newest.text.as_str()), (0, Some(listed.versions[1]), text));
    assert_eq!(newest.tables, TABLES);
    assert_eq!(get(1, 2).await, newest);
    assert_eq!(get(1, 1).await.version, Some(listed.versions[0]));
    for (programme, version, code) in [(1, 3, 25), (9, 1, 58)] {
        assert_eq!(get(programme, version).await, v1::GetRulesResponse { code, ..Default::default() });
    }
    let unknown = front.admin().list_rules(v1::ListRulesRequest { programme: 9 }).await.unwrap().into_inner();
    assert_eq!(unknown, v1::ListRulesResponse { code: 58, versions: vec![] });
    let outside = v1::GetRulesRequest { programme: 65_536, version: 1 };
    assert_eq!(front.admin().get_rules(outside).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_malformed_is_refused_and_leaves_nothing() {
    let mut front = Front::open().await;
    let before = front.entries().await;
    let mut terminal = front.terminal();
    let refused = |outcome: Result<(), Status>, field: &str| {
        let status = outcome.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(field), "{} does not begin with {field}", status.message());
    };
    let request = v1::PurchaseRequest { card: "12x45678".into(), ..front.purchase(1) };
    refused(terminal.purchase(request).await.map(drop), "card: ");
    let request = v1::PurchaseRequest { header: None, ..front.purchase(1) };
    refused(terminal.purchase(request).await.map(drop), "header: ");
    let request = v1::SetStatusRequest { header: front.header(), card: CARD.into(), status: 0, alias: None };
    refused(terminal.set_status(request).await.map(drop), "status: ");
    let request = v1::RefundRequest { header: front.header(), original: None, amount: 1 };
    refused(terminal.refund(request).await.map(drop), "original: ");
    let request = v1::CloseDayRequest { programme: 1, business_date: 20240230 };
    refused(front.admin().close_day(request).await.map(drop), "business_date: ");
    let request = v1::GetStatementRequest { programme: 1, card: "1".into(), limit: 0, before: 0 };
    refused(front.admin().get_statement(request).await.map(drop), "card: ");
    let request = v1::GetStatementRequest { programme: 1, card: CARD.into(), limit: 1_001, before: 0 };
    refused(front.admin().get_statement(request).await.map(drop), "limit: ");
    let request = v1::ListPositionsRequest { programme: 70_000 };
    refused(front.admin().list_positions(request).await.map(drop), "programme: ");
    let request = v1::ListLiabilitiesRequest { programme: 70_000 };
    refused(front.admin().list_liabilities(request).await.map(drop), "programme: ");
    assert_eq!(front.entries().await, before);
}

#[tokio::test]
async fn absurd_amounts_and_unknown_names_are_answers() {
    let mut front = Front::open().await;
    for amount in [0, -1, i64::MIN, 100_000_000_000_001, i64::MAX] {
        assert_eq!(front.buy(amount).await.unwrap().code, 13, "{amount}");
    }
    let request = v1::PurchaseRequest { card: "99999999".into(), ..front.purchase(1) };
    assert_eq!(front.terminal().purchase(request).await.unwrap().into_inner().answer.unwrap().code, 14);
    let mut request = front.purchase(1);
    request.header.as_mut().unwrap().terminal = 9;
    assert_eq!(front.terminal().purchase(request).await.unwrap().into_inner().answer.unwrap().code, 58);
    let mut request = front.purchase(1);
    request.header.as_mut().unwrap().local_time = 19991231235959;
    assert_eq!(front.terminal().purchase(request).await.unwrap().into_inner().answer.unwrap().code, 12);
    assert_eq!(front.balance().await.principal_balance, 100_000);
}

#[tokio::test]
async fn a_stream_answers_in_order() {
    let mut front = Front::open().await;
    let (sender, mut answers) = front.transact().await;
    let messages: Vec<_> = (1..=50).map(|amount| front.message(&[amount, amount])).collect();
    let sending = tokio::spawn(async move {
        for message in messages {
            sender.send(message).await.unwrap();
        }
    });
    let mut last = 0;
    for amount in 1..=50 {
        let response = next(&mut answers).await.unwrap().unwrap();
        assert_eq!(response.answers.len(), 2);
        for answer in response.answers {
            assert_eq!((answer.code, answer.amount + answer.discount), (0, amount));
            assert!(answer.sequence > last);
            last = answer.sequence;
        }
    }
    sending.await.unwrap();
    assert!(next(&mut answers).await.is_none());
}

#[tokio::test]
async fn a_malformed_transaction_is_answered_in_its_place() {
    let mut front = Front::open().await;
    let (sender, mut answers) = front.transact().await;
    let mut message = front.message(&[100, 100, 100, 100]);
    message.transactions[1].request = None;
    let Some(v1::transaction::Request::Purchase(third)) = &mut message.transactions[2].request else { unreachable!() };
    third.card = "x".into();
    sender.send(message).await.unwrap();
    assert_eq!(codes(next(&mut answers).await), [0, 30, 30, 0]);
}

#[tokio::test]
async fn a_message_of_the_wrong_size_ends_the_stream() {
    let mut front = Front::open().await;
    for amounts in [vec![], vec![1; 1_001]] {
        let (sender, mut answers) = front.transact().await;
        sender.send(front.message(&[1; 1_000])).await.unwrap();
        sender.send(front.message(&amounts)).await.unwrap();
        sender.send(front.message(&[7])).await.unwrap();
        assert_eq!(codes(next(&mut answers).await), [0; 1_000]);
        assert_eq!(next(&mut answers).await.unwrap().unwrap_err().code(), Code::InvalidArgument);
        assert!(next(&mut answers).await.is_none());
    }
    assert_eq!(front.entries().await, 7 + 2_000);
}

#[tokio::test]
async fn a_drain_answers_what_was_taken() {
    let mut front = Front::open().await;
    let (sender, mut answers) = front.transact().await;
    sender.send(front.message(&[100])).await.unwrap();
    assert_eq!(codes(next(&mut answers).await), [0]);
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = front.health().watch(request).await.unwrap().into_inner();
    assert_eq!(next(&mut watch).await.unwrap().unwrap().status(), ServingStatus::Serving);
    let messages: Vec<_> = (0..4).map(|_| front.message(&[1; 1_000])).collect();
    for message in messages {
        sender.send(message).await.unwrap();
    }
    let mut terminal = front.terminal();
    let unary = front.purchase(100);
    let unary = tokio::spawn(async move { terminal.purchase(unary).await });
    // All are on their way; what the server takes before it drains is answered.
    let first = codes(next(&mut answers).await);
    let stopping = front.stop(GRACE);
    assert_eq!(first, [0; 1_000]);
    let mut answered = 1_001;
    let end = loop {
        match next(&mut answers).await.expect("a status comes first") {
            Ok(response) => answered += response.answers.len() as u64,
            Err(status) => break status,
        }
    };
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "server is draining, send again"));
    assert_eq!(next(&mut watch).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(next(&mut watch).await.is_none());
    let unary = u64::from(unary.await.unwrap().is_ok());
    assert!(stopping.await.unwrap(), "it drains within the grace");
    assert!(std::net::TcpStream::connect(front.server.address()).is_err());
    // Seven entries of the set-up's; nothing else but what was answered.
    assert_eq!(front.engine.trial_balance(1).unwrap().entries, 7 + answered + unary);
}

#[tokio::test]
async fn a_caller_that_never_ends_is_cut_off_after_the_grace() {
    let front = Front::open().await;
    let (_sender, receiver) = mpsc::channel::<tonic_reflection::pb::v1::ServerReflectionRequest>(1);
    let mut client = tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(front.channel.clone());
    let _answers = client.server_reflection_info(outgoing(receiver)).await.unwrap();
    let started = std::time::Instant::now();
    assert!(!front.stop(Duration::from_millis(300)).await.unwrap());
    assert!(started.elapsed() < GRACE);
}

#[tokio::test]
async fn health_and_reflection_tell_what_there_is() {
    use tonic_reflection::pb::v1 as reflection;
    let front = Front::open().await;
    let services = ["TerminalService", "AdminService", "MemberService", "FeedService"].map(|name| format!("onecard.v1.{name}"));
    for service in services.into_iter().chain([String::new()]) {
        let request = HealthCheckRequest { service };
        let answer: HealthCheckResponse = front.health().check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let (sender, receiver) = mpsc::channel(1);
    let list = reflection::server_reflection_request::MessageRequest::ListServices(String::new());
    sender.send(reflection::ServerReflectionRequest { host: String::new(), message_request: Some(list) }).await.unwrap();
    drop(sender);
    let mut client = reflection::server_reflection_client::ServerReflectionClient::new(front.channel.clone());
    let mut answers = client.server_reflection_info(outgoing(receiver)).await.unwrap().into_inner();
    let answer = next(&mut answers).await.unwrap().unwrap().message_response.unwrap();
    let reflection::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    let expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "onecard.v1.AdminService",
        "onecard.v1.FeedService",
        "onecard.v1.MemberService",
        "onecard.v1.TerminalService",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn an_unknown_service_is_unimplemented() {
    let front = Front::open().await;
    let mut grpc = tonic::client::Grpc::new(front.channel.clone());
    grpc.ready().await.unwrap();
    let path = "/onecard.v9.TerminalService/Purchase".parse().unwrap();
    let codec: tonic_prost::ProstCodec<v1::FundRequest, v1::FundResponse> = Default::default();
    let status = grpc.unary(tonic::Request::new(v1::FundRequest::default()), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn who_goes_away_takes_nothing_back() {
    let mut front = Front::open().await;
    let request = front.purchase(1_000);
    let channel = connect(&front.server).await.unwrap();
    let mut terminal = TerminalServiceClient::new(channel);
    let calling = tokio::spawn({
        let request = request.clone();
        async move { terminal.purchase(request).await.map(drop) }
    });
    tokio::time::sleep(Duration::from_micros(300)).await;
    calling.abort();
    let _ = calling.await;
    // Whether or not it got through, the retry posts it once.
    let retried = front.terminal().purchase(request).await.unwrap().into_inner().answer.unwrap();
    let balance = front.balance().await;
    assert_eq!((retried.code, balance.principal_balance, balance.bonus_balance), (0, 100_000, 4_050));

    let (sender, mut answers) = front.transact().await;
    sender.send(front.message(&[100])).await.unwrap();
    assert_eq!(codes(next(&mut answers).await), [0]);
    drop((sender, answers));
    assert_eq!(front.buy(100).await.unwrap().code, 0);
}

#[tokio::test]
async fn noise_and_idle_connections_do_no_harm() {
    let mut front = Front::open().await;
    let open = || std::net::TcpStream::connect(front.server.address()).unwrap();
    let idle: Vec<_> = (0..200).map(|_| open()).collect();
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4_096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff"] {
        open().write_all(noise).unwrap();
    }
    let big = v1::PublishRulesRequest { programme: 1, version: 2, text: "x".repeat(1 << 20), tables: String::new() };
    assert_eq!(front.admin().publish_rules(big).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(front.buy(100).await.unwrap().code, 0);
    drop(idle);
}

#[tokio::test]
async fn a_closed_engine_is_unavailable() {
    let mut front = Front::open().await;
    let engine = front.engine.clone();
    tokio::task::spawn_blocking(move || engine.close()).await.unwrap().unwrap();
    assert_eq!(front.buy(100).await.unwrap_err().code(), Code::Unavailable);
    let request = v1::ListPositionsRequest { programme: 1 };
    assert_eq!(front.admin().list_positions(request).await.unwrap_err().code(), Code::Unavailable);
}

static BROKEN: AtomicBool = AtomicBool::new(false);

/// A clock that breaks the writer when it is told to.
fn breakable() -> u64 {
    assert!(!BROKEN.load(Ordering::SeqCst), "the clock is broken");
    micros()
}

#[tokio::test]
async fn a_poisoned_engine_is_unavailable_and_the_owner_is_told() {
    let mut front = Front::open_with(Options { clock: breakable, ..options() }).await;
    assert!(!front.server.wait(Duration::ZERO));
    BROKEN.store(true, Ordering::SeqCst);
    let status = front.buy(100).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!status.message().contains("clock"), "{}", status.message());
    assert!(front.server.wait(GRACE));
    assert!(front.engine.poisoned().is_some());
    let answer = front.health().check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::NotServing);
    assert!(front.stop(GRACE).await.unwrap());
}

#[tokio::test]
async fn only_loopback_is_served() {
    let front = Front::open().await;
    let refusal = |address: &str| serve(front.engine.clone(), address).map(drop).unwrap_err();
    for outside in ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051"] {
        let error = refusal(outside);
        assert!(matches!(error, ServeError::NotLoopback(_)), "{error}");
    }
    for unreadable in ["", "50051", "127.0.0.1", "127.0.0.1:99999"] {
        let error = refusal(unreadable);
        assert!(matches!(error, ServeError::Address(_)), "{error}");
    }
    let taken = refusal(&front.server.address().to_string());
    assert!(matches!(taken, ServeError::Bind { .. }), "{taken}");
    let named = serve(front.engine.clone(), "localhost:0").unwrap();
    assert!(named.address().ip().is_loopback());
}
