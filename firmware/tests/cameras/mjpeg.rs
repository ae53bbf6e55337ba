//! An MJPEG camera: a connection a thread, each with its own behaviour.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// What a connection does. Pictures come every 20 ms.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// These pictures over and over.
    Pictures(Vec<Vec<u8>>),
    /// Picture after picture, so often, and then silence.
    Stall(Vec<u8>, u32),
    /// Likewise, and then the connection is closed.
    Hang(Vec<u8>, u32),
    /// Bytes that are no picture, without end.
    Garbage,
    /// An answer of this status line, and nothing else.
    Refuse(&'static str),
}

/// Serves on a free port until the test ends: connection `n` behaves as `behaviours[n]` says, later ones as the last. Returns the port.
pub fn serve(behaviours: Vec<Behaviour>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let behaviours = Arc::new(behaviours);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let behaviours = Arc::clone(&behaviours);
            // A reader that goes away ends its connection.
            thread::spawn(move || answer(stream?, &behaviours[number.min(behaviours.len() - 1)]));
        }
    });
    port
}

fn answer(mut stream: TcpStream, behaviour: &Behaviour) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        request.push(byte[0]);
    }
    if let Behaviour::Refuse(status) = behaviour {
        return write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n")?;
    let mut send = |picture: &[u8]| -> std::io::Result<()> {
        write!(stream, "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len())?;
        stream.write_all(picture)?;
        stream.write_all(b"\r\n")?;
        thread::sleep(Duration::from_millis(20));
        Ok(())
    };
    match behaviour {
        Behaviour::Pictures(pictures) => loop {
            for picture in pictures {
                send(picture)?;
            }
        },
        Behaviour::Stall(picture, count) => {
            (0..*count).try_for_each(|_| send(picture))?;
            thread::sleep(Duration::from_secs(600));
            Ok(())
        }
        Behaviour::Hang(picture, count) => (0..*count).try_for_each(|_| send(picture)),
        Behaviour::Garbage => loop {
            stream.write_all(&[b'x'; 4096])?;
            thread::sleep(Duration::from_millis(1));
        },
        Behaviour::Refuse(_) => Ok(()),
    }
}
