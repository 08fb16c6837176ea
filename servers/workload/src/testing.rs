//! Checks that every server has to pass, over real sockets.
