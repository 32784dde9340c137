from session_fabric_cli.main import main

main()
