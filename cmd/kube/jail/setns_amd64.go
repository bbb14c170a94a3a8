package main

const sysSetns = 308 // missing in package syscall
