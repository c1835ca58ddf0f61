//! The client's side of gRPC over HTTP/2 (RFC 9113), as much as a driver needs: no TLS, no server push, no padding.
//!
//! Requests' headers go through the compression's table as every client's do: after the first call of a kind each is a
//! few bytes. Responses' header blocks are decoded once and then recognised by their bytes.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use loona_hpack::Decoder;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// Length and compression flag in front of each gRPC message.
pub const MESSAGE_HEADER: usize = 5;
/// Window that the server gets, and after how many received bytes it is renewed.
const RECEIVE_WINDOW: u32 = 1 << 30;
const RECEIVE_RENEW: u32 = 1 << 29;
const INITIAL_WINDOW: i64 = 65_535;
const INITIAL_FRAME_MAX: usize = 16_384;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

const SETTING_ENABLE_PUSH: u16 = 2;
const SETTING_INITIAL_WINDOW: u16 = 4;
const SETTING_FRAME_MAX: u16 = 5;

/// What came in.
pub enum Event<'a> {
    /// A whole message of a call.
    Message {
        /// When the call was meant to begin.
        since: Instant,
        /// The message without its gRPC header.
        bytes: &'a [u8],
    },
    /// A call is over.
    Ended {
        /// Its gRPC status; an error of HTTP/2 is 2 (unknown).
        status: u32,
        /// Messages that it was answered with.
        messages: u32,
    },
}

/// One connection, never blocking.
pub struct Connection {
    socket: TcpStream,
    out: Vec<u8>,
    input: Input,
    compression: Compression,
    responses: Responses,
    streams: HashMap<u32, Stream>,
    next_stream: u32,
    window: i64,
    initial_window: i64,
    frame_max: usize,
    received: u32,
    /// What the windows did not let through yet, oldest first.
    blocked: VecDeque<Blocked>,
    /// The header block of a HEADERS frame that goes on, with its stream and flags.
    unfinished: Option<(u32, u8, Vec<u8>)>,
}

struct Stream {
    since: Instant,
    window: i64,
    received: u32,
    /// Part of a message.
    partial: Vec<u8>,
    messages: u32,
}

struct Blocked {
    stream: u32,
    bytes: Vec<u8>,
    end: bool,
}

impl Connection {
    /// Connects and says hello.
    pub fn open(target: SocketAddr) -> io::Result<Connection> {
        let socket = TcpStream::connect(target)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut out = PREFACE.to_vec();
        frame(&mut out, SETTINGS, 0, 0, 12);
        setting(&mut out, SETTING_ENABLE_PUSH, 0);
        setting(&mut out, SETTING_INITIAL_WINDOW, RECEIVE_WINDOW);
        window_update(&mut out, 0, RECEIVE_WINDOW - INITIAL_WINDOW as u32);
        Ok(Connection {
            socket,
            out,
            input: Input::default(),
            compression: Compression::new(target),
            responses: Responses::default(),
            streams: HashMap::new(),
            next_stream: 1,
            window: INITIAL_WINDOW,
            initial_window: INITIAL_WINDOW,
            frame_max: INITIAL_FRAME_MAX,
            received: 0,
            blocked: VecDeque::new(),
            unfinished: None,
        })
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// True if there is something to write.
    pub fn wants_to_write(&self) -> bool {
        !self.out.is_empty()
    }

    /// Begins a call and returns its stream.
    pub fn call(&mut self, path: &'static str, since: Instant) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let start = self.out.len();
        frame(&mut self.out, HEADERS, END_HEADERS, stream, 0);
        self.compression.encode(path, &mut self.out);
        let length = self.out.len() - start - FRAME_HEADER;
        self.out[start + 1..start + 3].copy_from_slice(&(length as u16).to_be_bytes());
        let window = self.initial_window;
        self.streams.insert(stream, Stream { since, window, received: 0, partial: Vec::new(), messages: 0 });
        stream
    }

    /// Sends bytes on a stream: one or more whole messages with their gRPC headers.
    pub fn send(&mut self, stream: u32, bytes: &[u8], end: bool) {
        let sent = if self.blocked.is_empty() { self.send_now(stream, bytes, end) } else { 0 };
        if sent < bytes.len() {
            self.blocked.push_back(Blocked { stream, bytes: bytes[sent..].to_vec(), end });
        }
    }

    /// Ends the caller's side of a stream.
    pub fn end(&mut self, stream: u32) {
        frame(&mut self.out, DATA, END_STREAM, stream, 0);
    }

    fn send_now(&mut self, stream: u32, bytes: &[u8], end: bool) -> usize {
        let Some(state) = self.streams.get_mut(&stream) else { return bytes.len() };
        let mut sent = 0;
        while sent < bytes.len() {
            let room = self.window.min(state.window).max(0) as usize;
            let length = (bytes.len() - sent).min(self.frame_max).min(room);
            if length == 0 {
                break;
            }
            let last = end && sent + length == bytes.len();
            frame(&mut self.out, DATA, if last { END_STREAM } else { 0 }, stream, length);
            self.out.extend_from_slice(&bytes[sent..sent + length]);
            self.window -= length as i64;
            state.window -= length as i64;
            sent += length;
        }
        sent
    }

    fn send_blocked(&mut self) {
        while let Some(mut blocked) = self.blocked.pop_front() {
            let sent = self.send_now(blocked.stream, &blocked.bytes, blocked.end);
            if sent < blocked.bytes.len() {
                blocked.bytes.drain(..sent);
                self.blocked.push_front(blocked);
                return;
            }
        }
    }

    /// Writes as much as the socket takes.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.out.len() {
            match self.socket.write(&self.out[written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..written);
        Ok(())
    }

    /// Reads what is there and tells what it was.
    pub fn read(&mut self, mut tell: impl FnMut(Event<'_>)) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let more = input.fill(&mut self.socket)?;
        while let Some((kind, flags, stream, payload)) = input.next_frame() {
            self.receive(kind, flags, stream, payload, &mut tell)?;
        }
        self.input = input;
        if more { Ok(()) } else { Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")) }
    }

    fn receive(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], tell: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        match kind {
            DATA => self.receive_data(flags, stream, payload, tell),
            HEADERS if flags & (PADDED | PRIORITY) != 0 => Err(unexpected("padding or priority")),
            HEADERS if flags & END_HEADERS == 0 => {
                self.unfinished = Some((stream, flags, payload.to_vec()));
                Ok(())
            }
            HEADERS => self.receive_headers(flags, stream, payload, tell),
            CONTINUATION => self.receive_continuation(flags, stream, payload, tell),
            RST_STREAM => {
                self.finish(stream, 2, tell);
                Ok(())
            }
            SETTINGS if flags & ACK == 0 => self.receive_settings(payload),
            PING if flags & ACK == 0 => {
                frame(&mut self.out, PING, ACK, 0, payload.len());
                self.out.extend_from_slice(payload);
                Ok(())
            }
            WINDOW_UPDATE => self.receive_window(stream, payload),
            GOAWAY => Err(io::Error::other("the server takes no more calls (GOAWAY)")),
            _ => Ok(()),
        }
    }

    fn receive_data(&mut self, flags: u8, stream: u32, payload: &[u8], tell: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        if flags & PADDED != 0 {
            return Err(unexpected("padding"));
        }
        renew(&mut self.out, 0, &mut self.received, payload.len());
        if let Some(state) = self.streams.get_mut(&stream) {
            renew(&mut self.out, stream, &mut state.received, payload.len());
            let since = state.since;
            state.messages += each_message(&mut state.partial, payload, |bytes| tell(Event::Message { since, bytes }));
        }
        if flags & END_STREAM != 0 {
            // gRPC ends with trailers; without them the outcome is unknown.
            self.finish(stream, 2, tell);
        }
        Ok(())
    }

    fn receive_headers(&mut self, flags: u8, stream: u32, block: &[u8], tell: &mut impl FnMut(Event<'_>)) -> io::Result<()> {
        let status = self.responses.status(block)?;
        if flags & END_STREAM != 0 {
            self.finish(stream, status.unwrap_or(2), tell);
        }
        Ok(())
    }

    fn receive_continuation(
        &mut self,
        flags: u8,
        stream: u32,
        payload: &[u8],
        tell: &mut impl FnMut(Event<'_>),
    ) -> io::Result<()> {
        let Some((first, first_flags, mut block)) = self.unfinished.take().filter(|(first, ..)| *first == stream) else {
            return Err(unexpected("CONTINUATION"));
        };
        block.extend_from_slice(payload);
        if flags & END_HEADERS == 0 {
            self.unfinished = Some((first, first_flags, block));
            return Ok(());
        }
        self.receive_headers(first_flags, stream, &block, tell)
    }

    fn finish(&mut self, stream: u32, status: u32, tell: &mut impl FnMut(Event<'_>)) {
        if let Some(state) = self.streams.remove(&stream) {
            tell(Event::Ended { status, messages: state.messages });
        }
    }

    fn receive_settings(&mut self, payload: &[u8]) -> io::Result<()> {
        for setting in payload.chunks_exact(6) {
            let id = u16::from_be_bytes([setting[0], setting[1]]);
            let value = u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]);
            match id {
                SETTING_INITIAL_WINDOW => {
                    let change = i64::from(value) - self.initial_window;
                    self.initial_window += change;
                    self.streams.values_mut().for_each(|stream| stream.window += change);
                }
                SETTING_FRAME_MAX => self.frame_max = value as usize,
                _ => {}
            }
        }
        frame(&mut self.out, SETTINGS, ACK, 0, 0);
        self.send_blocked();
        Ok(())
    }

    fn receive_window(&mut self, stream: u32, payload: &[u8]) -> io::Result<()> {
        let Ok(bytes) = payload.try_into() else { return Err(unexpected("WINDOW_UPDATE")) };
        let more = i64::from(u32::from_be_bytes(bytes));
        if stream == 0 {
            self.window += more;
        } else if let Some(state) = self.streams.get_mut(&stream) {
            state.window += more;
        }
        self.send_blocked();
        Ok(())
    }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the server sent {what}, which this driver does not read"))
}

/// Hands each whole message to `tell` and keeps the rest; returns how many there were.
fn each_message(partial: &mut Vec<u8>, payload: &[u8], mut tell: impl FnMut(&[u8])) -> u32 {
    let joined;
    let mut rest = payload;
    if !partial.is_empty() {
        partial.extend_from_slice(payload);
        joined = std::mem::take(partial);
        rest = &joined;
    }
    let mut count = 0;
    while let Some((header, after)) = rest.split_first_chunk::<MESSAGE_HEADER>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        let Some((message, after)) = after.split_at_checked(length) else { break };
        tell(message);
        count += 1;
        rest = after;
    }
    partial.extend_from_slice(rest);
    count
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    out.extend_from_slice(&[high, middle, low, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn setting(out: &mut Vec<u8>, id: u16, value: u32) {
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&value.to_be_bytes());
}

fn window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    frame(out, WINDOW_UPDATE, 0, stream, 4);
    out.extend_from_slice(&more.to_be_bytes());
}

/// Counts what was received and gives the server as much room again before it runs short.
fn renew(out: &mut Vec<u8>, stream: u32, received: &mut u32, length: usize) {
    *received += length as u32;
    if *received >= RECEIVE_RENEW {
        window_update(out, stream, *received);
        *received = 0;
    }
}

/// Bytes from the socket, cut into frames.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
    /// Bytes before this are taken.
    start: usize,
    /// Bytes from this on are free.
    end: usize,
}

impl Input {
    const READ: usize = 256 << 10;

    /// False if the other side has closed.
    fn fill(&mut self, socket: &mut TcpStream) -> io::Result<bool> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.bytes.len() < self.end + Self::READ {
            self.bytes.resize(self.end + Self::READ, 0);
        }
        match socket.read(&mut self.bytes[self.end..]) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.end += count;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Kind, flags, stream and payload of the next whole frame.
    fn next_frame(&mut self) -> Option<(u8, u8, u32, &[u8])> {
        let bytes = &self.bytes[self.start..self.end];
        let header = bytes.first_chunk::<FRAME_HEADER>()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let payload = bytes.get(FRAME_HEADER..FRAME_HEADER + length)?;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & (u32::MAX >> 1);
        self.start += FRAME_HEADER + length;
        Some((header[3], header[4], stream, payload))
    }
}

/// Request headers, and which of them the server's table holds already (RFC 7541).
struct Compression {
    authority: String,
    /// What was entered, oldest first.
    entered: Vec<&'static str>,
}

impl Compression {
    const METHOD_POST: u8 = 0x80 | 3;
    const SCHEME_HTTP: u8 = 0x80 | 6;
    const ENTER: u8 = 0x40;
    const NAME_AUTHORITY: u8 = 1;
    const NAME_PATH: u8 = 4;
    const NAME_CONTENT_TYPE: u8 = 31;
    /// Entries of the static table.
    const STATIC: usize = 61;

    fn new(target: SocketAddr) -> Compression {
        Compression { authority: target.to_string(), entered: Vec::new() }
    }

    fn encode(&mut self, path: &'static str, out: &mut Vec<u8>) {
        out.extend_from_slice(&[Self::METHOD_POST, Self::SCHEME_HTTP]);
        let authority = std::mem::take(&mut self.authority);
        self.header(path, Self::NAME_PATH, path, out);
        self.header(":authority", Self::NAME_AUTHORITY, &authority, out);
        self.header("content-type", Self::NAME_CONTENT_TYPE, "application/grpc", out);
        self.header("te", 0, "trailers", out);
        self.authority = authority;
    }

    /// `what` tells this header from the others; `name` is its name's place in the static table, 0 if it has none.
    fn header(&mut self, what: &'static str, name: u8, value: &str, out: &mut Vec<u8>) {
        if let Some(age) = self.entered.iter().rev().position(|entered| *entered == what) {
            out.push(0x80 | (Self::STATIC + 1 + age) as u8);
            return;
        }
        out.push(Self::ENTER | name);
        if name == 0 {
            text(what, out);
        }
        text(value, out);
        self.entered.push(what);
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    assert!(text.len() < 127, "longer lengths take more than one byte");
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

/// Statuses in responses' header blocks.
#[derive(Default)]
struct Responses {
    decoder: Decoder<'static>,
    /// Blocks that only name entries of the table, and what they say as long as the table stays as it is.
    known: Vec<(Vec<u8>, Option<u32>)>,
}

impl Responses {
    /// The gRPC status in a header block, if there is one.
    fn status(&mut self, block: &[u8]) -> io::Result<Option<u32>> {
        if let Some((_, status)) = self.known.iter().find(|(known, _)| known == block) {
            return Ok(*status);
        }
        let mut status = None;
        let outcome = self.decoder.decode_with_cb(block, |name, value| {
            if name.as_ref() == b"grpc-status" {
                status = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
            }
        });
        outcome.map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("response headers: {error:?}")))?;
        // One byte with the top bit set, other than 0xff, is one entry of the table and changes nothing.
        if block.iter().all(|&byte| byte > 0x80 && byte < 0xff) {
            self.known.push((block.to_vec(), status));
        } else {
            self.known.clear();
        }
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_headers_are_what_a_decoder_reads() {
        let mut compression = Compression::new("127.0.0.1:50051".parse().expect("an address"));
        let mut decoder = Decoder::new();
        for (path, length_max) in [("/a/B", 99), ("/a/C", 99), ("/a/B", 6), ("/a/C", 6)] {
            let mut block = Vec::new();
            compression.encode(path, &mut block);
            let headers = decoder.decode(&block).expect("a header block");
            let text = |at: usize| (str::from_utf8(&headers[at].0).unwrap(), str::from_utf8(&headers[at].1).unwrap());
            assert_eq!((text(0), text(1)), ((":method", "POST"), (":scheme", "http")));
            assert_eq!((text(2), text(3)), ((":path", path), (":authority", "127.0.0.1:50051")));
            assert_eq!((text(4), text(5)), (("content-type", "application/grpc"), ("te", "trailers")));
            assert!(block.len() <= length_max, "{path}: {} bytes", block.len());
        }
    }

    #[test]
    fn a_message_in_pieces_is_joined() {
        let wire = [0, 0, 0, 0, 3, b'a', b'b', b'c', 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'd'];
        for cut in 0..=wire.len() {
            let (mut partial, mut messages) = (Vec::new(), Vec::new());
            let mut count = 0;
            for piece in [&wire[..cut], &wire[cut..]] {
                count += each_message(&mut partial, piece, |bytes| messages.push(bytes.to_vec()));
            }
            assert_eq!((count, partial.len()), (3, 0));
            assert_eq!(messages, [b"abc".to_vec(), b"".to_vec(), b"d".to_vec()]);
        }
    }
}
