//! An RTSP camera: MPEG transport stream in RTP, within the RTSP connection (RFC 2326, section 10.12; RFC 2250, section 2).

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Bytes of a transport packet, and how many go into one RTP packet.
const PACKET: usize = 188;
const PACKETS: usize = 7;

/// Serves `stream` on a free port until the test ends. Each connection gets it once, 1.3 kB every 10 ms, and then silence. With
/// `password`, the header line `Authorization` must hold it. Returns the port.
pub fn serve(stream: Vec<u8>, password: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let transport = Arc::new(stream);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let transport = Arc::clone(&transport);
            thread::spawn(move || answer(stream?, port, &transport, password));
        }
    });
    port
}

fn answer(mut stream: TcpStream, port: u16, transport: &[u8], password: Option<&str>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    loop {
        let mut request = Vec::new();
        while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
            request.push(line);
        }
        let Some(first) = request.first() else { return Ok(()) };
        let header = |name: &str| request.iter().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
        let sequence = header("CSeq:");
        let mut reply = |status: &str, headers: &str, body: &str| {
            write!(stream, "RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{headers}\r\n{body}")
        };
        let method = first.split(' ').next().unwrap_or("");
        if password.is_some_and(|password| method != "OPTIONS" && header("Authorization: Basic") != password) {
            reply("401 Unauthorized", "WWW-Authenticate: Basic realm=\"camera\"\r\n", "")?;
            continue;
        }
        match method {
            "OPTIONS" => reply("200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", "")?,
            "DESCRIBE" => {
                let sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:video\r\n";
                let base = format!("Content-Base: rtsp://127.0.0.1:{port}/live/\r\n");
                let length = sdp.len();
                let headers = format!("{base}Content-Type: application/sdp\r\nContent-Length: {length}\r\n");
                reply("200 OK", &headers, sdp)?;
            }
            "SETUP" => reply("200 OK", "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n", "")?,
            "PLAY" => {
                reply("200 OK", "Session: 1\r\n", "")?;
                send(&mut stream, transport)?;
            }
            _ => reply("200 OK", "Session: 1\r\n", "")?,
        }
    }
}

fn send(stream: &mut TcpStream, transport: &[u8]) -> std::io::Result<()> {
    for (number, packets) in transport.chunks(PACKET * PACKETS).enumerate() {
        let mut message = vec![b'$', 0];
        message.extend_from_slice(&(12 + packets.len() as u16).to_be_bytes());
        // Version 2, payload type 33 (MPEG transport stream), sequence number, time in 1/90,000 s, source.
        message.extend_from_slice(&[0x80, 33]);
        message.extend_from_slice(&(number as u16).to_be_bytes());
        message.extend_from_slice(&(90 * number as u32).to_be_bytes());
        message.extend_from_slice(&[0, 0, 0, 1]);
        message.extend_from_slice(packets);
        stream.write_all(&message)?;
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
