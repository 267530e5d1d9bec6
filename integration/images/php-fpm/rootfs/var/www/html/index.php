<?php
session_start();
$_SESSION['n'] = 41;
function add($n) { for ($i = 0; $i < 2000; $i++) { $m = $n + 1; } return $m; }
echo "served by php ", add($_SESSION['n']), "\n";
