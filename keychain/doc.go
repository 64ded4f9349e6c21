// Package keychain owns what the laptop keeps secret: sessions, keys and cached credentials in one
// sealed file (AES-256-GCM) under one 32-byte key, which lies in the operating system's store, in a
// key file, or in a person's head (Argon2id). One item in the system's store means one prompt,
// and room under Windows' limit of 2,560 bytes.
//
// The file's header remembers where the key lies, from the first secret on; nothing probes again.
// A file that cannot be opened is an error and stays; only Reset moves it aside.
//
// Windows' store is reached through 99designs/keyring. On Linux it is not linked: it dials the session
// bus while the program starts, may start dbus-launch there, and hangs before main when the bus is
// silent. The Secret Service and KWallet are spoken to here, over a connection with a deadline,
// when a secret is wanted and not before. On macOS it would need cgo: security(1) is given commands instead.
//
// Whoever holds a key in memory can be told to drop it, and a process that can ask nobody adopts the key
// that another one has fetched.
//
// Package keychain/secret holds the Secret type. It serves the flow "login" and every use of a
// session in docs/architecture.md.
package keychain
