# Read by interactive shells that are not login shells.
[ -z "$PS1" ] && return
[ -r /etc/profile.d/kedge.sh ] && . /etc/profile.d/kedge.sh
