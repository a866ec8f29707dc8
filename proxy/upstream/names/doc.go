// Package names keeps the addresses of backends up to date: DNS names in the
// background, and whatever else can tell where a VM is through a Feed.
//
// A Resolver asks for each watched name on its own and sets the name's Feed;
// nobody ever waits for it. How it asks:
//
//   - /etc/hosts first, then "localhost", then the servers of
//     /etc/resolv.conf with its search, ndots, timeout and attempts. Both files
//     are read again when they change, and then all names are asked for again.
//   - A and AAAA at once. A family that gets no answer keeps its last
//     addresses while the other one is renewed.
//   - Again when the TTL has passed, which counts as 5 s at least (also 0) and
//     an hour at most, plus up to a tenth of it by chance; sooner after Refresh.
//   - A failure of any sort, NXDOMAIN among them, keeps the last endpoints. It
//     is tried again after 1 s, 2 s, 4 s … 60 s, each by chance a quarter more
//     or less.
//   - At most 64 queries are under way at once, and a look-up takes at most 30 s.
package names
