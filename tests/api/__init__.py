"""Operations, sockets and views."""
