//! Limits that the gateway inherits.

use crate::support::{binary, text};
use barnabas_testkit::Gateway;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

#[test]
fn a_shells_limit_of_open_files_is_no_limit_of_connections() {
    let program = binary();
    let script = "ulimit -S -n 100; exec \"$0\" dev --port 0";
    let gateway = Gateway::spawn(Path::new("/bin/sh"), &["-c", script, text(&program)]).unwrap();
    let clients: Vec<TcpStream> = (0..200)
        .map(|_| TcpStream::connect(gateway.address()).unwrap())
        .collect();
    for mut client in clients {
        client.write_all(b"PING\r\n").unwrap();
        let mut reply = [0; 7];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"+PONG\r\n");
    }
}
