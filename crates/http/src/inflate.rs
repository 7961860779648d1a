//! Bodies that are compressed, taken apart in small steps: what a step gives
//! is bounded, so that a body that grows a thousandfold is seen growing.

use bytes::{Buf as _, Bytes};
use flate2::write::MultiGzDecoder;
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;
use std::io::{self, Write as _};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder};
use zstd::stream::zio;

/// What is taken in at once: 128 bytes of gzip are 130 KiB at most, of zstd,
/// in blocks of one repeated byte, 4 MiB.
const STEP: usize = 128;
/// The memory that a zstd frame may want to look back, as a power of two: what
/// every decoder has to have (RFC 8878, section 3.1.1.1.2).
const WINDOW_LOG: u32 = 23;

/// Takes a compressed body apart.
pub(crate) enum Inflate {
    Gzip(MultiGzDecoder<Vec<u8>>),
    /// Not the crate's `write::Decoder`, which takes a frame that is cut off for
    /// a whole one.
    Zstd(zio::Writer<Vec<u8>, ZstdDecoder<'static>>),
}

impl Inflate {
    /// As `Content-Encoding` says: `None` if the body is as it is. The error is
    /// an encoding that is not known.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, String> {
        let mut named = headers.get_all(CONTENT_ENCODING).iter();
        let Some(first) = named.next() else {
            return Ok(None);
        };
        let name = String::from_utf8_lossy(first.as_bytes());
        let unknown = || format!("content encoding {:?}", name.trim());
        if named.next().is_some() {
            return Err(unknown());
        }
        match &*name.trim().to_ascii_lowercase() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip(MultiGzDecoder::new(Vec::new())))),
            "zstd" => {
                let mut decoder = ZstdDecoder::new().map_err(|_| unknown())?;
                let bounded = decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG));
                bounded.map_err(|_| unknown())?;
                Ok(Some(Self::Zstd(zio::Writer::new(Vec::new(), decoder))))
            }
            _ => Err(unknown()),
        }
    }

    /// Takes some bytes from the front of `input` and gives what has become of
    /// them, which may be nothing yet.
    pub(crate) fn step(&mut self, input: &mut Bytes) -> io::Result<Vec<u8>> {
        let step = input.get(..STEP).unwrap_or(input);
        match self {
            Self::Gzip(decoder) => decoder.write_all(step)?,
            Self::Zstd(decoder) => {
                decoder.write_all(step)?;
                decoder.flush()?;
            }
        }
        let length = step.len();
        input.advance(length);
        Ok(self.take())
    }

    /// The rest, once the body has ended.
    pub(crate) fn finish(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish()?,
            Self::Zstd(decoder) => decoder.finish()?,
        }
        Ok(self.take())
    }

    fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Gzip(decoder) => std::mem::take(decoder.get_mut()),
            Self::Zstd(decoder) => std::mem::take(decoder.writer_mut()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn inflate(encoding: &'static str, body: &[u8]) -> io::Result<Vec<u8>> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        let mut inflate = Inflate::of(&headers).unwrap().unwrap();
        let mut input = Bytes::copy_from_slice(body);
        let mut all = Vec::new();
        while !input.is_empty() {
            let step = inflate.step(&mut input)?;
            assert!(step.len() <= 5 << 20, "{} at once", step.len());
            all.extend(step);
        }
        all.extend(inflate.finish()?);
        Ok(all)
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_compressed_comes_back() {
        for body in [&b""[..], b"a", &[b'x'; 300_000]] {
            assert_eq!(inflate("gzip", &gzip(body)).unwrap(), body);
            let packed = zstd::encode_all(body, 3).unwrap();
            assert_eq!(inflate("ZSTD", &packed).unwrap(), body);
        }
        // Members, and frames, one after another are one body.
        let twice = [gzip(b"a"), gzip(b"b")].concat();
        assert_eq!(inflate("x-gzip", &twice).unwrap(), b"ab");
        let twice = [
            zstd::encode_all(&b"a"[..], 1).unwrap(),
            zstd::encode_all(&b"b"[..], 1).unwrap(),
        ];
        assert_eq!(inflate("zstd", &twice.concat()).unwrap(), b"ab");
    }

    #[test]
    fn what_is_not_compressed_is_refused() {
        for encoding in ["gzip", "zstd"] {
            assert!(inflate(encoding, b"no such thing as this").is_err());
        }
        let text: Vec<u8> = (0..10_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = [
            ("gzip", gzip(&text)),
            ("zstd", zstd::encode_all(&*text, 3).unwrap()),
        ];
        for (encoding, packed) in packed {
            for length in [0, 1, packed.len() / 2, packed.len() - 1] {
                let cut_off = packed.get(..length).unwrap();
                assert!(inflate(encoding, cut_off).is_err(), "{encoding}: {length}");
            }
        }
    }

    #[test]
    fn bombs_go_off_in_small_steps() {
        // `inflate` checks what each step gives.
        let zeros = vec![0; 64 << 20];
        assert_eq!(inflate("gzip", &gzip(&zeros)).unwrap().len(), zeros.len());
        let packed = zstd::encode_all(&zeros[..], 19).unwrap();
        assert_eq!(inflate("zstd", &packed).unwrap().len(), zeros.len());
    }

    #[test]
    fn encodings_are_named() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(value));
            Inflate::of(&headers).map(|inflate| inflate.is_some())
        };
        assert_eq!(of("identity"), Ok(false));
        assert_eq!(of(" gzip"), Ok(true));
        assert_eq!(of("br"), Err("content encoding \"br\"".to_owned()));
        assert!(of("gzip, zstd").is_err());
    }
}
