module github.com/kedgeos/kedge/images/pause

go 1.26.0
