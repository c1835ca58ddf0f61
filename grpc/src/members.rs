//! Members: what head office knows of the persons who hold cards. Calls wait for the disk, so each runs on a thread of the runtime's
//! blocking pool. Nothing of a member is in an error or a log.

use onecard_core::calendar::to_yyyymmdd;
use onecard_core::{CardNumber, Code, Consent, Engine, Error, Member, RealName};
use tonic::{Request, Response, Status};

use crate::counter::{failed, internal};
use crate::rows::{Malformed, date, programme};
use crate::v1;
use crate::v1::member_service_server::MemberService;

/// Most members of a page.
const LIMIT_MAX: u32 = 1_000;
/// Members of a page if the caller leaves it open.
const LIMIT_DEFAULT: u32 = 100;

/// The service of `member.proto`.
pub struct Members {
    engine: Engine,
}

impl Members {
    /// The service over an engine.
    pub fn new(engine: Engine) -> Members {
        Members { engine }
    }

    async fn query<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Engine) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let engine = self.engine.clone();
        let outcome = tokio::task::spawn_blocking(move || call(&engine)).await;
        outcome.map_err(|_| internal())?.map_err(|error| failed(&error))
    }
}

#[tonic::async_trait]
impl MemberService for Members {
    async fn enrol_member(&self, request: Request<v1::EnrolMemberRequest>) -> Result<Response<v1::EnrolMemberResponse>, Status> {
        let message = request.into_inner();
        let (programme, member) = (programme(message.programme, "programme")?, read(message.member)?);
        let code = self.query(move |engine| engine.enrol(programme, &member)).await?;
        Ok(Response::new(v1::EnrolMemberResponse { code: code.number().into() }))
    }

    async fn update_member(
        &self,
        request: Request<v1::UpdateMemberRequest>,
    ) -> Result<Response<v1::UpdateMemberResponse>, Status> {
        let message = request.into_inner();
        let (programme, member) = (programme(message.programme, "programme")?, read(message.member)?);
        let code = self.query(move |engine| engine.update_member(programme, &member)).await?;
        Ok(Response::new(v1::UpdateMemberResponse { code: code.number().into() }))
    }

    async fn get_member(&self, request: Request<v1::GetMemberRequest>) -> Result<Response<v1::GetMemberResponse>, Status> {
        let v1::GetMemberRequest { programme: number, id } = request.into_inner();
        let programme = programme(number, "programme")?;
        let (member, cards) = self.query(move |engine| engine.member(programme, id)).await?;
        let code = if member.is_some() { Code::Approved } else { Code::OriginalNotFound };
        let cards = cards.iter().map(CardNumber::to_string).collect();
        Ok(Response::new(v1::GetMemberResponse { code: code.number().into(), member: member.map(told), cards }))
    }

    async fn list_members(&self, request: Request<v1::ListMembersRequest>) -> Result<Response<v1::ListMembersResponse>, Status> {
        let v1::ListMembersRequest { programme: number, after, limit, tag } = request.into_inner();
        let programme = programme(number, "programme")?;
        let limit = match limit {
            0 => LIMIT_DEFAULT,
            1..=LIMIT_MAX => limit,
            _ => return Err(Status::invalid_argument("limit: send at most 1,000, and ask again with `after`")),
        };
        let members = self.query(move |engine| engine.list_members(programme, after, limit as usize, &tag)).await?;
        Ok(Response::new(v1::ListMembersResponse { members: members.into_iter().map(told).collect() }))
    }

    async fn erase_member(&self, request: Request<v1::EraseMemberRequest>) -> Result<Response<v1::EraseMemberResponse>, Status> {
        let v1::EraseMemberRequest { programme: number, id } = request.into_inner();
        let programme = programme(number, "programme")?;
        let code = self.query(move |engine| engine.erase_member(programme, id)).await?;
        Ok(Response::new(v1::EraseMemberResponse { code: code.number().into() }))
    }
}

/// A member as the core knows it; whether it is well formed is the core's to say.
fn read(message: Option<v1::Member>) -> Result<Member, Status> {
    let member = message.ok_or_else(|| Status::invalid_argument("member: is missing"))?;
    let real_name = match member.real_name() {
        v1::RealName::Unspecified => RealName::Anonymous,
        v1::RealName::Claimed => RealName::Claimed,
        v1::RealName::Verified => RealName::Verified,
    };
    let consents = member.consents.into_iter().map(|(purpose, consent)| {
        let date = date(consent.date, "member.consents.date")?;
        Ok((purpose, Consent { given: consent.given, date, text: consent.text }))
    });
    Ok(Member {
        id: member.id,
        name: member.name,
        phone: member.phone,
        email: member.email,
        birthday: member.birthday,
        real_name,
        tags: member.tags.into_iter().collect(),
        attributes: member.attributes.into_iter().collect(),
        consents: consents.collect::<Result<_, Malformed>>()?,
        enrolled: date(member.enrolled, "member.enrolled")?,
    })
}

fn told(member: Member) -> v1::Member {
    let consents = member.consents.into_iter().map(|(purpose, consent)| {
        let date = to_yyyymmdd(consent.date);
        (purpose, v1::Consent { given: consent.given, date, text: consent.text })
    });
    v1::Member {
        id: member.id,
        name: member.name,
        phone: member.phone,
        email: member.email,
        birthday: member.birthday,
        real_name: member.real_name as i32,
        tags: member.tags.into_iter().collect(),
        attributes: member.attributes.into_iter().collect(),
        consents: consents.collect(),
        enrolled: to_yyyymmdd(member.enrolled),
    }
}
