//! The codec of every service: protobuf, with buffers of the size of a swipe.
//!
//! tonic's own sets 16 KiB aside for each call; a request and its answer together need less than 512 bytes, and buffers
//! this small come from the allocator's fast path. Longer messages grow them.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

const BUFFER_BYTES: usize = 512;
/// Bytes of a stream's answers that are gathered before they are written.
const YIELD_BYTES: usize = 32 << 10;

/// See [`ProstCodec`].
pub struct SwipeCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SwipeCodec<T, U> {
    fn default() -> Self {
        SwipeCodec(PhantomData)
    }
}

impl<T, U> Codec for SwipeCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> ProstEncoder<T> {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> ProstDecoder<U> {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
