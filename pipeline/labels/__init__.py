"""Labels as people have them: tables, JSON lines and Label Studio's files, read into claims and written as queues."""
