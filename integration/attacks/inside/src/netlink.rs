//! One message to nf_tables: a batch that makes a table.

use crate::{Stop, sys};

/// Makes a table; that the kernel acknowledged it is the evidence.
pub(crate) fn new_table() -> Result<String, Stop> {
    let socket = sys::socket("NETLINK_NETFILTER", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER)?;
    let mut batch = Vec::new();
    // NFNL_MSG_BATCH_BEGIN for subsystem 10 (nftables).
    message(&mut batch, 0x10, 1, &[0, 0, 0, 10]);
    // NFT_MSG_NEWTABLE, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE; nfgenmsg of AF_INET; NFTA_TABLE_NAME "t".
    message(&mut batch, 10 << 8, 1 | 4 | 0x400, &[2, 0, 0, 0, 6, 0, 1, 0, b't', 0, 0, 0]);
    message(&mut batch, 0x11, 1, &[0, 0, 0, 10]);
    let (at, length) = (batch.as_ptr() as i64, batch.len() as i64);
    sys::call("send to nf_tables", libc::SYS_sendto, [socket, at, length, 0, 0, 0])?;
    let mut answer = [0u8; 256];
    let (at, length) = (answer.as_mut_ptr() as i64, answer.len() as i64);
    sys::call("read of nf_tables", libc::SYS_recvfrom, [socket, at, length, 0, 0, 0])?;
    // nlmsgerr: header of 16 bytes, then the error.
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    if error == 0 {
        Ok("a table in nf_tables".to_owned())
    } else {
        Err(Stop::at("nf_tables")(std::io::Error::from_raw_os_error(-error)))
    }
}

fn message(batch: &mut Vec<u8>, kind: u16, flags: u16, body: &[u8]) {
    let length = 16 + body.len() as u32;
    batch.extend(length.to_ne_bytes());
    batch.extend(kind.to_ne_bytes());
    batch.extend(flags.to_ne_bytes());
    batch.extend([0; 8]);
    batch.extend(body);
}
