//! The requirements of the documents that Countersign follows, run against a broker. Nothing is here yet: until then the
//! integration tests of the broker hold them, clause by clause.
