package main

const sysSetns = 268 // missing in package syscall
