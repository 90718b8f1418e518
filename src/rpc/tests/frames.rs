//! The parser against bytes cut anywhere, lengths at every edge, and what no frame may say.

use bytes::{BufMut, Bytes, BytesMut};

use crate::rpc::Method;
use crate::rpc::frame::{
    FRAME_BYTES_MAX, FrameBuffer, FrameError, HEAD_BYTES, Head, Item, Kind, Named,
};
use crate::rpc::methods::REPLY_BYTES_MAX;

fn frame(head: &Head, body: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    head.write(body.len(), &mut bytes);
    bytes.extend_from_slice(body);
    bytes.to_vec()
}

fn feed(buffer: &mut FrameBuffer, bytes: &[u8]) {
    buffer.room().extend_from_slice(bytes);
}

fn drain(buffer: &mut FrameBuffer) -> Result<Vec<Item>, FrameError> {
    let mut items = Vec::new();
    while let Some(item) = buffer.next_item()? {
        items.push(item);
    }
    Ok(items)
}

/// Three frames behind one another: a call, an empty reply, a refusal.
fn conversation() -> (Vec<u8>, Vec<Item>) {
    let parts = [
        (Head::request(Method::KvGet, 1, 250), &b"\x92\x01\x02"[..]),
        (Head::plain(Kind::Reply, u64::MAX), &b""[..]),
        (Head::plain(Kind::Refusal, 3), &b"\x80"[..]),
    ];
    let bytes = parts.iter().flat_map(|(head, body)| frame(head, body)).collect();
    let items =
        parts.into_iter().map(|(head, body)| Item::Frame(head, Bytes::from(body))).collect();
    (bytes, items)
}

#[test]
fn frames_split_at_every_byte_are_the_same_frames() {
    let (bytes, expected) = conversation();
    for cut in 0..=bytes.len() {
        let mut buffer = FrameBuffer::default();
        feed(&mut buffer, &bytes[..cut]);
        let mut items = drain(&mut buffer).unwrap();
        feed(&mut buffer, &bytes[cut..]);
        items.extend(drain(&mut buffer).unwrap());
        assert_eq!(items, expected, "cut at {cut}");
        assert!(!buffer.in_frame());
    }
    let mut buffer = FrameBuffer::default();
    let mut items = Vec::new();
    for byte in bytes {
        feed(&mut buffer, &[byte]);
        items.extend(drain(&mut buffer).unwrap());
    }
    assert_eq!(items, expected, "byte by byte");
}

#[test]
fn the_bytes_of_a_request_are_these() {
    let bytes = frame(&Head::request(Method::KvGet, 0x0102_0304_0506_0708, 1000), b"\xc0");
    let expected =
        b"\0\0\0\x17\x01\x03\x06\0\x01\x02\x03\x04\x05\x06\x07\x08\0\0\x03\xe8Kv.Get\xc0";
    assert_eq!(bytes, expected);
}

#[test]
fn lengths_at_every_edge() {
    let refused = |length: u32| {
        let mut buffer = FrameBuffer::default();
        // Only the four bytes: the refusal must not wait for more.
        feed(&mut buffer, &length.to_be_bytes());
        buffer.next_item()
    };
    let max = FRAME_BYTES_MAX as u32;
    let head = (HEAD_BYTES - 4) as u32;
    assert_eq!(refused(0), Err(FrameError::TooShort(0)));
    assert_eq!(refused(1), Err(FrameError::TooShort(1)));
    assert_eq!(refused(head - 1), Err(FrameError::TooShort(head - 1)));
    assert_eq!(refused(head), Ok(None));
    assert_eq!(refused(max), Ok(None));
    assert_eq!(refused(max + 1), Err(FrameError::TooLong(max + 1)));
    assert_eq!(refused(u32::MAX), Err(FrameError::TooLong(u32::MAX)));
}

#[test]
fn a_announced_length_allocates_nothing() {
    let mut buffer = FrameBuffer::default();
    let mut head = BytesMut::new();
    Head::plain(Kind::Reply, 1).write(REPLY_BYTES_MAX, &mut head);
    feed(&mut buffer, &head);
    assert_eq!(buffer.next_item(), Ok(None));
    assert!(buffer.room().capacity() <= 64 << 10, "{}", buffer.room().capacity());
    // Growing by what is received, never to more than about twice of it.
    let mut received = head.len();
    while received < 1 << 20 {
        let piece = 1 << 10;
        feed(&mut buffer, &vec![0; piece]);
        received += piece;
        assert_eq!(buffer.next_item(), Ok(None));
        let capacity = buffer.room().capacity();
        assert!(capacity <= 3 * received + (64 << 10), "{capacity} for {received}");
    }
}

#[test]
fn a_body_over_its_own_limit_is_skipped_and_the_next_frame_read() {
    let max = Method::KvGet.args_max();
    for over in [1, 70_000] {
        let mut bytes = frame(&Head::request(Method::KvGet, 1, 0), &vec![0xc0; max + over]);
        bytes.extend(frame(&Head::plain(Kind::Close, 2), b"\xc0"));
        for step in [1000, bytes.len()] {
            let mut buffer = FrameBuffer::default();
            let mut items = Vec::new();
            for piece in bytes.chunks(step) {
                feed(&mut buffer, piece);
                items.extend(drain(&mut buffer).unwrap());
                assert!(buffer.room().len() < 30_000, "the body is not kept");
            }
            let head = Head::request(Method::KvGet, 1, 0);
            assert_eq!(items[0], Item::Oversize { head, bytes: max + over, max });
            assert_eq!(
                items[1..],
                [Item::Frame(Head::plain(Kind::Close, 2), Bytes::from_static(b"\xc0"))]
            );
        }
    }
    let at_limit = frame(&Head::request(Method::KvGet, 1, 0), &vec![0xc0; max]);
    let mut buffer = FrameBuffer::default();
    feed(&mut buffer, &at_limit);
    assert!(matches!(drain(&mut buffer).unwrap()[..], [Item::Frame(..)]));
}

#[test]
fn a_frame_that_breaks_the_format_is_named() {
    let good = frame(&Head::request(Method::KvGet, 1, 0), b"\xc0");
    let broken = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        let mut buffer = FrameBuffer::default();
        feed(&mut buffer, &bytes);
        buffer.next_item()
    };
    assert_eq!(broken(4, 0), Err(FrameError::Version(0)));
    assert_eq!(broken(4, 2), Err(FrameError::Version(2)));
    assert_eq!(broken(5, 0), Err(FrameError::Kind(0)));
    assert_eq!(broken(5, 7), Err(FrameError::Kind(7)));
    assert_eq!(broken(5, Kind::Reply as u8), Err(FrameError::Name(6)), "a reply names no method");
    assert_eq!(broken(6, 0), Err(FrameError::Name(0)), "a request names one");
    assert_eq!(broken(6, 8), Err(FrameError::Name(8)), "the name is longer than the frame");
    assert_eq!(broken(6, 255), Err(FrameError::Name(255)));
    assert_eq!(broken(7, 1), Err(FrameError::Flags(1)));
}

#[test]
fn an_unknown_method_is_named_fit_for_a_log() {
    let mut bytes = BytesMut::new();
    let name = b"Kv.\n\xff";
    bytes.put_u32((HEAD_BYTES - 4 + name.len()) as u32);
    bytes.put_slice(&[1, Kind::Request as u8, name.len() as u8, 0]);
    bytes.put_u64(9);
    bytes.put_u32(0);
    bytes.put_slice(name);
    let mut buffer = FrameBuffer::default();
    feed(&mut buffer, &bytes);
    let Ok(Some(Item::Frame(head, _))) = buffer.next_item() else { panic!("a whole frame") };
    assert_eq!(head.method, Named::Unknown("Kv.\\n\\u{fffd}".to_owned()));
}
