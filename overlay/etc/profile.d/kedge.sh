# What makes a shell on a Kedge node comfortable.
if [ "$(id -u)" -eq 0 ]; then
	PS1='\u@\h:\w# '
	[ -n "$KUBECONFIG" ] || export KUBECONFIG=/etc/rancher/k3s/k3s.yaml
	alias k=kubectl
else
	PS1='\u@\h:\w$ '
	# The admin's kubeconfig is root's alone.
	alias kubectl='sudo kubectl' k='sudo kubectl' ctr='sudo ctr'
fi
alias ll='ls -l'
