//! What head office calls. The core's calls block, so each runs on a thread of the runtime's blocking pool; once begun
//! it ends, whether or not the caller still waits.

use onecard_core::accounts::Account;
use onecard_core::codes::Code;
use onecard_core::commands::{
    CloseReport, GrowthReport, MerchantLiability, PublishedRules, Registration, RulesVersion, StaffSales, StatementLine,
    StorePosition, TrialBalance,
};
use onecard_core::pipeline::Explanation;
use onecard_core::rules::{Fate, Verdict};
use onecard_core::units::{UNIT_MIN, Unit};
use onecard_core::{Batch, Engine, Error};
use tonic::{Request, Response, Status};

use crate::answers;
use crate::counter::{failed, internal};
use crate::rows::{Ask, card_number, date, malformed, no_keys, posted_date, programme, sixteen_bits};
use crate::texts::{self, NoText};
use crate::v1;
use crate::v1::admin_service_server::AdminService;

/// Most registrations in a call.
const REGISTRATIONS_MAX: usize = 10_000;
/// Most lines of a statement.
const LINES_MAX: u32 = 1_000;
/// Lines of a statement if the caller leaves it open.
const LINES_DEFAULT: u32 = 100;
/// Most texts of codes in a call.
pub const CODES_MAX: u32 = 100_000;

/// The service of `admin.proto`.
pub struct Admin {
    engine: Engine,
}

impl Admin {
    /// The service over an engine.
    pub fn new(engine: Engine) -> Admin {
        Admin { engine }
    }

    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<Result<T, Error>, Status> {
        let engine = self.engine.clone();
        let outcome = tokio::task::spawn_blocking(move || call(&engine)).await;
        outcome.map_err(|_| internal())
    }

    async fn query<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        self.run(call).await?.map_err(|error| failed(&error))
    }
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterResponse>, Status> {
        let message = request.into_inner();
        if message.registrations.len() > REGISTRATIONS_MAX {
            return Err(Status::invalid_argument("registrations: send at most 10,000 in a call"));
        }
        let readable: Vec<_> = message.registrations.into_iter().map(registration).collect();
        let malformed: Vec<bool> = readable.iter().map(Option::is_none).collect();
        let registrations = readable.into_iter().flatten().collect();
        let mut codes = self.query(move |engine| engine.register(registrations)).await?.into_iter();
        let mut in_place = |malformed| if malformed { Some(Code::FormatError) } else { codes.next() };
        let codes = malformed.into_iter().filter_map(|malformed| in_place(malformed).map(number)).collect();
        Ok(Response::new(v1::RegisterResponse { codes }))
    }

    async fn publish_rules(
        &self,
        request: Request<v1::PublishRulesRequest>,
    ) -> Result<Response<v1::PublishRulesResponse>, Status> {
        let v1::PublishRulesRequest { programme: number, version, text, tables } = request.into_inner();
        let programme = programme(number, "programme")?;
        let (code, message) = match self.run(move |engine| engine.publish(programme, version, text, tables)).await? {
            Ok(code) => (code, code.text().to_owned()),
            // What is wrong with the tables is the caller's to know.
            Err(Error::Rules(message)) => (Code::FormatError, message),
            Err(error) => return Err(failed(&error)),
        };
        Ok(Response::new(v1::PublishRulesResponse { code: code.number().into(), message }))
    }

    async fn list_rules(&self, request: Request<v1::ListRulesRequest>) -> Result<Response<v1::ListRulesResponse>, Status> {
        let programme = programme(request.get_ref().programme, "programme")?;
        let (code, versions) = self.query(move |engine| engine.rules_versions(programme)).await?;
        let versions = versions.iter().map(rules_version).collect();
        Ok(Response::new(v1::ListRulesResponse { code: number(code), versions }))
    }

    async fn get_rules(&self, request: Request<v1::GetRulesRequest>) -> Result<Response<v1::GetRulesResponse>, Status> {
        let v1::GetRulesRequest { programme: number, version } = *request.get_ref();
        let programme = programme(number, "programme")?;
        let found = self.query(move |engine| engine.rules(programme, version)).await?;
        Ok(Response::new(published_rules(found)))
    }

    async fn explain_sale(&self, request: Request<v1::ExplainSaleRequest>) -> Result<Response<v1::ExplainSaleResponse>, Status> {
        use v1::explain_sale_request::Sale;
        let message = request.into_inner();
        let programme = programme(message.programme, "programme")?;
        let mut items = Vec::new();
        let mut row = |ask: &dyn Ask| ask.row(self.engine.secrets(), &mut items);
        let row = match message.sale {
            Some(Sale::Sequence(sequence)) => {
                let found = self.query(move |engine| engine.explain(programme, sequence)).await?;
                return Ok(Response::new(explanation(found)));
            }
            Some(Sale::Purchase(sale)) => row(&v1::PurchaseRequest { dry_run: true, ..sale })?,
            Some(Sale::Authorise(sale)) => row(&v1::AuthoriseRequest { dry_run: true, ..sale })?,
            None => return Err(malformed("sale", "send a sequence, a purchase or an authorisation").into()),
        };
        let mut batch = Batch::default();
        batch.push(row, &items);
        let found = self.query(move |engine| engine.explain_dry_run(batch)).await?;
        Ok(Response::new(explanation(found)))
    }

    async fn close_day(&self, request: Request<v1::CloseDayRequest>) -> Result<Response<v1::CloseDayResponse>, Status> {
        let message = request.into_inner();
        let programme = programme(message.programme, "programme")?;
        let date = date(message.business_date, "business_date")?;
        let report = self.query(move |engine| engine.close_day(programme, date)).await?;
        Ok(Response::new(close_report(&report)))
    }

    async fn get_statement(
        &self,
        request: Request<v1::GetStatementRequest>,
    ) -> Result<Response<v1::GetStatementResponse>, Status> {
        let message = request.into_inner();
        let programme = programme(message.programme, "programme")?;
        let number = card_number(&message.card)?;
        let limit = match message.limit {
            0 => LINES_DEFAULT,
            1..=LINES_MAX => message.limit,
            _ => return Err(Status::invalid_argument("limit: send at most 1,000, and ask again with `before`")),
        };
        let query = move |engine: &Engine| engine.statement(programme, number, limit as usize, message.before);
        let (code, lines) = self.query(query).await?;
        let lines = lines.iter().map(statement_line).collect();
        Ok(Response::new(v1::GetStatementResponse { code: code.number().into(), lines }))
    }

    async fn get_trial_balance(
        &self,
        request: Request<v1::GetTrialBalanceRequest>,
    ) -> Result<Response<v1::GetTrialBalanceResponse>, Status> {
        let programme = programme(request.get_ref().programme, "programme")?;
        let balance = self.query(move |engine| engine.trial_balance(programme)).await?;
        Ok(Response::new(trial_balance(&balance)))
    }

    async fn list_positions(
        &self,
        request: Request<v1::ListPositionsRequest>,
    ) -> Result<Response<v1::ListPositionsResponse>, Status> {
        let programme = programme(request.get_ref().programme, "programme")?;
        let (code, positions) = self.query(move |engine| engine.positions(programme)).await?;
        let stores = positions.iter().map(store_position).collect();
        Ok(Response::new(v1::ListPositionsResponse { code: code.number().into(), stores }))
    }

    async fn list_liabilities(
        &self,
        request: Request<v1::ListLiabilitiesRequest>,
    ) -> Result<Response<v1::ListLiabilitiesResponse>, Status> {
        let programme = programme(request.get_ref().programme, "programme")?;
        let found = self.query(move |engine| engine.liabilities(programme)).await?;
        Ok(Response::new(v1::ListLiabilitiesResponse {
            code: number(found.code),
            growth_date: found.growth_date.map_or(0, posted_date),
            merchants: found.merchants.iter().map(merchant_liability).collect(),
        }))
    }

    async fn list_staff(&self, request: Request<v1::ListStaffRequest>) -> Result<Response<v1::ListStaffResponse>, Status> {
        let programme = programme(request.get_ref().programme, "programme")?;
        let (code, staff) = self.query(move |engine| engine.staff(programme)).await?;
        Ok(Response::new(v1::ListStaffResponse { code: number(code), staff: staff.iter().map(staff_sales).collect() }))
    }

    async fn list_codes(&self, request: Request<v1::ListCodesRequest>) -> Result<Response<v1::ListCodesResponse>, Status> {
        let v1::ListCodesRequest { programme: number, unit, first, count } = *request.get_ref();
        if first == 0 || !(1..=CODES_MAX).contains(&count) {
            return Err(Status::invalid_argument("first, count: send the first serial from 1, and a count of 1 to 100,000"));
        }
        let codes = code_texts(&self.engine, number, unit, first, count).await?;
        Ok(Response::new(v1::ListCodesResponse { codes }))
    }
}

/// The texts of so many codes from this serial on, made on the blocking pool: many take long.
pub async fn code_texts(engine: &Engine, number: u32, unit: u32, first: u64, count: u32) -> Result<Vec<String>, Status> {
    let programme = programme(number, "programme")?.max(1);
    let unit = sixteen_bits(unit, "unit")?;
    if unit < UNIT_MIN {
        return Err(malformed("unit", "send a unit of the rules, 16 to 65535").into());
    }
    let secrets = engine.secrets().clone();
    let texts = tokio::task::spawn_blocking(move || texts::codes(&secrets, programme, unit, first, count)).await;
    texts.map_err(|_| internal())?.map_err(|why| match why {
        NoText::NoKeys => no_keys(),
        NoText::Beyond => malformed("first", "send a serial that came out").into(),
    })
}

fn rules_version(version: &RulesVersion) -> v1::RulesVersion {
    let RulesVersion { version, sequence, date } = *version;
    v1::RulesVersion { version, sequence, business_date: posted_date(date) }
}

fn explanation(found: Explanation) -> v1::ExplainSaleResponse {
    let Explanation { code, version, priced_by, answer, parts, verdicts } = found;
    let approved = code == Code::Approved.number();
    v1::ExplainSaleResponse {
        code: code.into(),
        version: approved.then(|| rules_version(&version)),
        answer: (approved || answer.code != 0).then(|| answers::answer(&answer, &parts)),
        verdicts: verdicts.into_iter().map(verdict).collect(),
        priced_by,
    }
}

fn verdict((of, name): (Verdict, String)) -> v1::Verdict {
    let (fate, missed) = match of.fate {
        Fate::Counts => (v1::Fate::Counts, 0),
        Fate::GivesWay => (v1::Fate::GivesWay, 0),
        // The numbers of the core are those of the proto.
        Fate::Misses(condition) => (v1::Fate::Misses, condition as i32),
        Fate::Refuses => (v1::Fate::Refuses, 0),
        Fate::Failed => (v1::Fate::Failed, 0),
        Fate::TimedOut => (v1::Fate::TimedOut, 0),
    };
    v1::Verdict { gift: of.gift as i32, id: of.id, name, gives: of.gives, fate: fate.into(), missed }
}

fn published_rules(found: PublishedRules) -> v1::GetRulesResponse {
    let PublishedRules { code, version, text, tables } = found;
    let version = (code == Code::Approved).then(|| rules_version(&version));
    v1::GetRulesResponse { code: number(code), version, text, tables }
}

fn staff_sales(sales: &StaffSales) -> v1::StaffSales {
    v1::StaffSales { card: sales.card.to_string(), sales: sales.sales, amount: int128(sales.amount) }
}

fn number(code: Code) -> u32 {
    code.number().into()
}

/// None: it is answered 30 in its place.
fn registration(message: v1::Registration) -> Option<Registration> {
    use v1::registration::What;
    let programme = |number| programme(number, "programme").ok();
    Some(match message.what? {
        What::Programme(what) => Registration::Programme {
            programme: programme(what.programme)?,
            name: what.name,
            date: date(what.business_date, "business_date").ok()?,
        },
        What::Merchant(what) => {
            Registration::Merchant { programme: programme(what.programme)?, merchant: what.merchant, name: what.name }
        }
        What::Store(what) => Registration::Store {
            programme: programme(what.programme)?,
            store: what.store,
            merchant: what.merchant,
            name: what.name,
        },
        What::Terminal(what) => {
            Registration::Terminal { programme: programme(what.programme)?, terminal: what.terminal, store: what.store }
        }
    })
}

/// A number of 128 bits in its two halves.
fn int128(number: i128) -> Option<v1::Int128> {
    Some(v1::Int128 { high: (number >> 64) as i64, low: number as u64 })
}

fn store_position(position: &StorePosition) -> v1::StorePosition {
    v1::StorePosition {
        store: position.store,
        sold: int128(position.sold),
        collected: int128(position.collected),
        fees: int128(position.fees),
        net: int128(position.net()),
        due: int128(position.due),
    }
}

fn merchant_liability(found: &MerchantLiability) -> v1::MerchantLiability {
    let MerchantLiability { merchant, points, growth } = *found;
    v1::MerchantLiability { merchant, points: int128(points), growth: int128(growth) }
}

fn growth(report: &GrowthReport) -> v1::Growth {
    v1::Growth {
        rate: report.rate,
        outstanding: int128(report.outstanding),
        purses: report.purses,
        reserve: int128(report.reserve),
        funded: report.funded,
    }
}

fn close_report(report: &CloseReport) -> v1::CloseDayResponse {
    let next = if report.code == Code::Approved { report.date + 1 } else { 0 };
    v1::CloseDayResponse {
        code: number(report.code),
        message: report.code.text().to_owned(),
        replayed: report.replayed,
        sequence: report.sequence,
        business_date: posted_date(report.date),
        next_business_date: posted_date(next),
        stores: report.stores.iter().map(store_position).collect(),
        members: int128(report.members),
        bonus: int128(report.bonus),
        points: int128(report.points),
        issuer_net: int128(report.issuer_net()),
        growth: report.growth.as_ref().map(growth),
        units: int128(report.units),
    }
}

fn statement_line(line: &StatementLine) -> v1::StatementLine {
    let answer = &line.answer;
    v1::StatementLine {
        sequence: answer.sequence,
        kind: answer.kind.into(),
        code: answer.code.into(),
        business_date: posted_date(answer.business_date),
        value_date: posted_date(line.value_date),
        terminal: line.terminal,
        store: line.store,
        amount: answer.amount,
        principal: answer.principal,
        bonus: answer.bonus,
        points: line.points,
        growth: line.growth,
        principal_balance: answer.principal_balance,
        bonus_balance: answer.bonus_balance,
        points_balance: answer.points_balance,
    }
}

fn unit_total(&(unit, [cards, pool, codes]): &(u16, [i128; 3])) -> v1::UnitTotal {
    v1::UnitTotal { unit: unit.into(), cards: int128(cards), pool: int128(pool), codes: int128(codes) }
}

fn trial_balance(balance: &TrialBalance) -> v1::GetTrialBalanceResponse {
    let (mut money, mut points) = (0, 0);
    for &(code, total) in &balance.totals {
        match Account::from_code(code).map(Account::unit) {
            Some(Unit::Money) => money += total,
            Some(Unit::Points) => points += total,
            Some(Unit::Counted) | None => {}
        }
    }
    v1::GetTrialBalanceResponse {
        code: number(balance.code),
        open_date: posted_date(balance.open_date),
        cards: balance.cards,
        entries: balance.entries,
        totals: balance
            .totals
            .iter()
            .map(|&(account, total)| v1::AccountTotal { account: account.into(), total: int128(total) })
            .collect(),
        money_sum: int128(money),
        points_sum: int128(points),
        growing: balance.growing,
        units: balance.units.iter().map(unit_total).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_halves_make_the_number(number in any::<i128>()) {
            let halves = int128(number).expect("always there");
            prop_assert_eq!((i128::from(halves.high) << 64) + i128::from(halves.low), number);
        }
    }
}
