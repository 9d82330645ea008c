//! Files, pipes, the terminal and random numbers, and the threads that read and write them.

pub mod agent_socket;
pub mod batch_writer;
pub mod console;
pub mod fifo;
pub mod files;
pub mod input;
pub mod recording_file;
pub mod registry_file;
pub mod request_ids;
pub mod service_manager;
pub mod spool;
pub mod stdin;
